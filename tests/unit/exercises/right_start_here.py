"""Right answers of lesson 00 written in other ways; each must pass."""


def rows_times_columns(height, width, patch_size):
    rows, columns = height // patch_size, width // patch_size
    return rows * columns


def counted_one_by_one(height, width, patch_size):
    tops = range(0, height - patch_size + 1, patch_size)
    return sum(1 for _ in tops for _ in range(0, width - patch_size + 1, patch_size))


def rounded_down(height, width, patch_size):
    return int(height / patch_size) * int(width / patch_size)


RIGHT = {"count_patches": [rows_times_columns, counted_one_by_one, rounded_down]}
