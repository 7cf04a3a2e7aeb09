# nbgrader's settings for this course: run nbgrader in this folder and it finds them.
c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "vit-edu"

# The lessons' own words: vit_edu.check knows by them that nothing is written yet.
c.ClearSolutions.code_stub = {"python": 'raise NotImplementedError("$stub")'}

# Lessons ask learners to change numbers and look. Cells that are not theirs stay editable, and are put back before
# grading.
c.LockCells.lock_readonly_cells = False

# Where a solved notebook was run, the kit keeps its answers for the next lesson: nothing for learners.
c.CourseDirectory.ignore.append(".vit_edu")

# release/ is there before nbgrader has made it. It makes the same cells, and notes in its gradebook what it has made.
c.GenerateAssignment.force = True

c.Execute.timeout = 120  # seconds a cell
