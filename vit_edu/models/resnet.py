"""The CNN to compare with: He et al. 2016, section 4.2, for small images, with torchvision's shortcuts."""

from torch import Tensor, nn

from vit_edu.layers.checks import check_at_least, check_each, check_images, check_sides


class BasicBlock(nn.Module):
    """Figure 2: (B, in_chans, H, W) -> (B, out_chans, H/stride, W/stride), rounded up; x is projected where need be."""

    def __init__(self, in_chans: int, out_chans: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, out_chans, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_chans)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_chans, out_chans, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_chans)
        self.downsample = nn.Sequential()  # the identity
        if stride != 1 or in_chans != out_chans:  # option B; the paper's section 4.2 has A, without weights
            self.downsample.append(nn.Conv2d(in_chans, out_chans, kernel_size=1, stride=stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(out_chans))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet(nn.Module):
    """Float images (B, in_chans, H, W) -> logits (B, num_classes), or features (B, embed_dim) where num_classes=0.

    Stages of `depths` blocks; the first has `width` channels, each that follows twice as many, the last embed_dim.
    A resnet20 of width 60 is about as large as cct_7_3x1_32. Any image size goes; the intermediates are the stages'
    maps, seen["layer1"] and so on. Raises ValueError for words or images that do not fit, TypeError for other dtypes.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 32,
        in_chans: int = 3,
        num_classes: int = 10,
        depths: tuple[int, ...] = (3, 3, 3),
        width: int = 16,
    ):
        super().__init__()
        check_each(depths=depths)
        check_at_least(1, in_chans=in_chans, width=width)
        check_at_least(0, num_classes=num_classes)
        self.img_size, self.num_classes = check_sides(img_size), num_classes
        self.num_stages, self.embed_dim = len(depths), width * 2 ** (len(depths) - 1)
        self.conv1 = nn.Conv2d(in_chans, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        for i, depth in enumerate(depths):
            chans = width * 2**i
            first = BasicBlock(chans // 2, chans, stride=2) if i else BasicBlock(chans, chans)
            rest = (BasicBlock(chans, chans) for _ in range(depth - 1))
            self.add_module(f"layer{i + 1}", nn.Sequential(first, *rest))
        self.fc = nn.Linear(self.embed_dim, num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        """Images (B, in_chans, H, W) -> the last map (B, embed_dim, H/4, W/4) of three stages, rounded up."""
        check_images(images, self.conv1.in_channels, self.conv1.weight.dtype)
        x = self.relu(self.bn1(self.conv1(images)))  # (B, width, H, W)
        for i in range(1, self.num_stages + 1):
            x = self.get_submodule(f"layer{i}")(x)
            if seen is not None:
                seen[f"layer{i}"] = x
        return x

    def forward(self, images: Tensor, return_intermediates: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        seen = {} if return_intermediates else None
        logits = self.fc(self.forward_features(images, seen).mean(dim=(2, 3)))  # (B, embed_dim, H, W) -> (B, embed_dim)
        return (logits, seen) if return_intermediates else logits


MODELS = {f"resnet{6 * n + 2}": {"depths": (n, n, n)} for n in (3, 5, 7, 9)}  # table 6
