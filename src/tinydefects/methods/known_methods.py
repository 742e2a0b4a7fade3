"""What is known of methods beside their code: models of anomalib 2.7 by class name, and what is left out on purpose.

What a model fetches, and from where, was read from the library's source; `tests/test_anomalib_method.py` runs each from
random weights, and asks some where they would fetch others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tinydefects.errors import TinyDefectsError

LIBRARY_LICENCE = "Apache-2.0 (anomalib)"
FROM_FILE = "weights=FILE, or pre_trained=false for random ones"
OF_THE_HUB = "weights=FILE (its model.safetensors from there), or pre_trained=false for random ones"
NO_MAP = "gives an image score and no map"
NOT_FROM_NORMALS = "learns nothing from normal images"
OF_VIDEOS = "is for videos"


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFacts:
    """What whoever chooses a method wants to know.

    Attributes:
        summary: one line.
        paper: arXiv id, or where else it was published; empty where nowhere but here.
        licence: of code that runs and is not of this package; empty if there is none.
        extra: of this package that has to be installed; empty if none.
        needs: what has to be given, beside training images; empty if nothing.
        fetches: what is fetched beside the shared teacher, and from where; empty if nothing.
        from_file: how to do without that network; empty if there is no way.
        excluded: why it cannot be run here; empty if it can.
    """

    summary: str
    paper: str = ""
    licence: str = ""
    extra: str = ""
    needs: str = ""
    fetches: str = ""
    from_file: str = ""
    excluded: str = ""

    @property
    def offline(self) -> str:
        """`yes`, `from a file`, `no`, or `excluded`."""
        if self.excluded:
            return "excluded"
        if not self.fetches:
            return "yes"
        return "from a file" if self.from_file else "no"


@dataclass(frozen=True, slots=True)
class PublishedInput:
    """Side in pixels of the input that a method was published with, and where that is said.

    The whole image is scaled to it here, also where the published code cuts its middle out of a larger one.
    """

    px: int
    source: str


PUBLISHED_INPUTS: Mapping[str, PublishedInput] = {
    "fbft": PublishedInput(1036, "the paper, with DINOv2 ViT-B/14"),
    "patchcore": PublishedInput(224, "the authors' code, with a Wide ResNet-50: the inner 224 of 256 px"),
    "anomalydino": PublishedInput(
        448, "the authors' code, unless told otherwise: the shorter side; the paper has 672, too"
    ),
    "mh_patchcore": PublishedInput(224, "the authors' settings for MVTec AD, with a Wide ResNet-50"),
    "procon": PublishedInput(392, "the paper, with DINOv2 ViT-B/14"),
    "rad": PublishedInput(448, "the paper, with DINOv3: the inner 448 of 512 px"),
    "gaussian": PublishedInput(224, "PaDiM as anomalib ran it, a Gaussian for each place: the inner 224 of 256 px"),
    "subspace": PublishedInput(672, "SubspaceAD's documentation, with DINOv2 ViT-g/14"),
    "noise_discriminator": PublishedInput(256, "SuperSimpleNet's stored results, with a Wide ResNet-50"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalibModel(MethodFacts):
    """A class in `anomalib.models`.

    Attributes:
        batch: images a training step, unless told otherwise.
        pictures: the constructor's name for the folder of `pictures=`; empty if it takes none.
        holds_out: whether a tenth of the training images is kept to scale its maps with.
    """

    licence: str = LIBRARY_LICENCE
    extra: str = "anomalib"
    batch: int = 8
    pictures: str = ""
    holds_out: bool = False

    def require_use(self, name: str, weights: str | None, pictures: str | None, pre_trained: bool) -> None:
        """Refuse a model that cannot be compared, and files that are missing or of no use to it.

        Raises:
            TinyDefectsError: in one line that begins with `name` or the file.
        """
        if self.excluded:
            raise TinyDefectsError(f"{name} {self.excluded}; choose another, see 'tinydefects methods'")
        if weights is not None and not pre_trained:
            raise TinyDefectsError(f"{name}: weights and pre_trained=false exclude each other; leave one out")
        if weights is not None and self.summary and "weights=" not in self.from_file:
            raise TinyDefectsError(f"{name}: starts from no weights that could be given; leave them out")
        if self.pictures and pictures is None:  # the library would put what it fetches into the current folder
            raise TinyDefectsError(f"{name}: learns from pictures of other things, too; give {self.needs}")
        if pictures is not None and not self.pictures:
            raise TinyDefectsError(f"{name}: learns from no pictures but the training images; leave out pictures")
        for option, path, is_there in (("weights", weights, Path.is_file), ("pictures", pictures, Path.is_dir)):
            if path is not None and not is_there(Path(path)):
                raise TinyDefectsError(f"{path}: is not there; check the path behind {name}:{option}=")


def _on(backbone: str, summary: str, paper: str, *, weights: str = "") -> AnomalibModel:
    """A model on a network of timm; `weights` is what to know of these."""
    what = f"weights of {backbone} from the Hugging Face hub{weights}"
    return AnomalibModel(summary=summary, paper=paper, fetches=what, from_file=OF_THE_HUB)


def _left_out(summary: str, paper: str, reason: str) -> AnomalibModel:
    return AnomalibModel(summary=summary, paper=paper, excluded=reason)


DINO_V3 = " (DINOv3 licence; access is asked for there)"
ANOMALIB_MODELS: Mapping[str, AnomalibModel] = {
    "AnomalyDINO": _on("vit_small_patch14_dinov2", "cosine distance to patches of a memory bank", "2405.14529"),
    "Cfa": AnomalibModel(
        summary="features adapted so that normal ones lie in hyperspheres",
        paper="2206.04325",
        fetches="weights of wide_resnet50_2 from download.pytorch.org",
        from_file=FROM_FILE,
    ),
    "Cflow": _on("wide_resnet50_2", "likelihood of patches under flows that know their place", "2107.12571"),
    "Csflow": AnomalibModel(
        summary="likelihood under flows that cross scales",
        paper="2110.02855",
        fetches="weights of efficientnet_b5 from download.pytorch.org",
        from_file=FROM_FILE,
    ),
    "Dfm": _on("resnet50", "what of an image's features lies outside their main directions", "1909.11786"),
    "Dinomaly": _on("vit_base_patch14_reg4_dinov2", "a transformer that rebuilds DINOv2's features", "2405.14325"),
    "Draem": AnomalibModel(
        summary="a network that restores and segments drawn defects, trained from nothing",
        paper="2108.07610",
        needs="pictures=FOLDER of any textures (published with the Describable Textures Dataset)",
        pictures="dtd_dir",
    ),
    "Dsr": AnomalibModel(
        summary="two subspaces of quantised features, defects drawn among them",
        paper="2208.01521",
        fetches="weights of its discrete model from anomalib's releases at github.com",
        from_file=FROM_FILE,
    ),
    "EfficientAd": AnomalibModel(
        summary="a small student and an autoencoder against a distilled teacher",
        paper="2303.14535",
        needs="pictures=FOLDER of anything else, in a folder below it (published with ImageNet)",
        fetches="weights of its teacher from anomalib's releases at github.com",
        from_file="weights=FILE (pretrained_teacher_small.pth), or pre_trained=false for random ones",
        batch=1,
        pictures="imagenet_dir",
        holds_out=True,
    ),
    "Fastflow": _on("resnet18", "likelihood of patches under normalising flows", "2111.07677"),
    "FoundAD": _on("vit_base_patch14_dinov2.lvd142m", "a projector onto the manifold of normal features", "2510.01934"),
    "Fre": _on("resnet50", "how badly features are rebuilt from their main directions", "BMVC 2023"),
    "GeneralAD": _on(
        "vit_large_patch14_dinov2.lvd142m", "attention that tells features from noised ones", "2407.12427"
    ),
    "Glass": _on("wide_resnet50_2", "a discriminator trained on noise and drawn textures", "2407.09359"),
    "InpFormer": _on("vit_base_patch14_reg4_dinov2", "prototypes taken from the image itself", "2503.02424"),
    "L2BT": _on("vit_base_patch14_reg4_dinov2", "forward-backward feature transfer at 224 px", "2407.04092"),
    "MHPatchcore": _on("wide_resnet50_2.tv2_in1k", "nearest neighbours in a whitened bank", "2605.27748"),
    "Padim": _on("resnet18", "a Gaussian for each place", "2011.08785"),
    "Patchcore": _on("wide_resnet50_2", "nearest neighbours in a thinned bank", "2106.08265"),
    "Patchflow": _on("tf_efficientnet_b5", "likelihood of neighbouring patches under flows", "2602.05238"),
    "Rad": _on("vit_base_patch16_dinov3", "patches near the same place of images alike", "2601.22763", weights=DINO_V3),
    "ReverseDistillation": _on("wide_resnet50_2", "a decoder that rebuilds the teacher's features", "2201.10703"),
    "Stfpm": _on("resnet18", "a student that imitates its teacher's features", "2103.04257"),
    "SuperADD": _on("vit_huge_plus_patch16_dinov3", "memory bank of overlapping tiles", "2605.14808", weights=DINO_V3),
    "Supersimplenet": _on("wide_resnet50_2.tv_in1k", "a discriminator of normal and noised features", "2408.03143"),
    "Uflow": AnomalibModel(
        summary="likelihood under a U-shaped flow",
        paper="2211.12353",
        fetches="weights of cait_m48_448 and cait_s24_224 from the Hugging Face hub",
        from_file="backbone=wide_resnet50_2:weights=FILE (both of its own cannot be given), or pre_trained=false",
    ),
    "UniNet": AnomalibModel(
        summary="contrast between a student and two teachers",
        paper="CVPR 2025",
        fetches="weights of wide_resnet50_2 from download.pytorch.org",
        from_file=FROM_FILE,
    ),
    "Dfkde": _left_out("density of an image's features", "", NO_MAP),
    "Ganomaly": _left_out("how badly an image is rebuilt by an adversarial network", "1805.06725", NO_MAP),
    "AnomalyVFM": _left_out("a foundation model adapted to defects in general", "2601.20524", NOT_FROM_NORMALS),
    "VlmAd": _left_out("questions to a language model that sees", "", NOT_FROM_NORMALS),
    "WinClip": _left_out("images compared with texts", "2303.14814", NOT_FROM_NORMALS),
    "CFM": _left_out("features of pictures foretold from depth and back", "2312.04521", "needs depth beside pictures"),
    "AiVad": _left_out("velocities, poses and features of persons", "2212.00789", OF_VIDEOS),
    "Fuvas": _left_out("features of a sequence", "", OF_VIDEOS),
}
SEES_TEST_IMAGES = (
    "learns from the test images: each is scored by how alike it is to the others, so that a score depends on what "
    "else is in the test set; no test image is shown here before it is scored, and none but one at a time"
)
EXCLUDED: Mapping[str, MethodFacts] = {
    "musc": MethodFacts(
        summary="mutual scoring of unlabelled images (MuSc)", paper="2401.16753", excluded=SEES_TEST_IMAGES
    ),
    "musc_v2": MethodFacts(
        summary="the same with neighbours by similarity, and for point clouds (MuSc-V2)",
        paper="2511.10047",
        excluded=SEES_TEST_IMAGES,
    ),
}
