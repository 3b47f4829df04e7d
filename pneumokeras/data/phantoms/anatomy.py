"""The drawn chest: a patient's anatomy, its projection onto the film, and the attenuation of each part.

Body coordinates: the origin is the middle of the chest, x points to the image's right (the patient's left),
y points down, and the unit is the image's width. Heights inside the chest are also given as `level`: 0 at the
apices of the lungs and 1 at the domes of the diaphragm. Attenuation is in units of the film's response: a
trunk without air has about 1.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

Level = TypeVar("Level", float, np.ndarray)

RIGHT, LEFT = -1, 1  # the patient's sides, as the sign of x
RIB_PAIRS = 12
DEPTH = 0.12
"""Half the depth of the chest: parts at the front and the back move apart when the patient turns."""

SUBPIXEL_BITS = 4

TRUNK = 1.6
RIB_BACK, RIB_FRONT, RIB_EDGE = 0.25, 0.1, 1.1
CLAVICLE, SCAPULA, HUMERUS = 0.34, 0.13, 0.35
VERTEBRA, PEDICLE = 0.36, 0.18
HEART, BEHIND_HEART = 0.14, 0.88  # the attenuation it adds, and the share of air it replaces
VESSEL, BREAST, TRACHEA_AIR, STOMACH_AIR = 0.3, 0.22, 0.21, 0.38


@dataclass(frozen=True)
class Patient:
    """The anatomy of one patient.

    Lengths are in image widths; `infancy` is 0 (adult) to 1 (infant).
    """

    infancy: float
    cage_half_width: float
    lung_height: float
    wall: float  # soft tissue between ribs and skin
    neck_half_width: float
    shoulder_half_width: float
    arm_angle: float  # radians below the horizontal; negative where the arms are raised
    rib_slope: float  # descent of a rib from spine to sternum
    rib_thickness: float
    bone_density: float
    spine_half_width: float
    mediastinum_half_width: float
    heart_left: float
    heart_right: float
    aortic_knob: float
    thymus: float
    right_dome: float  # height of the dome above its outer angle
    left_dome: float
    breast: float
    aeration: float  # share of the trunk's attenuation that air in a lung removes
    vessels: float  # strength of the vessels, 1 = usual
    vessel_seed: int
    infection: str  # kind of pneumonia, if the patient has it: "bacteria" or "virus"

    def y(self, level: Level) -> Level:
        """Return the height of a level in body coordinates."""
        return (level - 0.53) * self.lung_height

    def cage(self, level: float | np.ndarray) -> np.ndarray:
        """Return the half width of the rib cage at a level: a dome above nearly parallel walls."""
        rise = np.clip((np.asarray(level) + 0.06) / 0.86, 0.0, 1.0)
        return self.cage_half_width * (1.0 - (1.0 - rise) ** (2.5 + self.infancy * 0.5)) ** 0.55


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw the anatomy of a patient of any age and build, which all radiographs of this patient share."""
    infancy = rng.uniform()
    adult = 1.0 - infancy
    cage = rng.uniform(0.29, 0.37)
    height = cage * (1.62 - 0.3 * infancy) * rng.uniform(0.85, 1.2)
    dome = height * rng.uniform(0.13, 0.32)
    return Patient(
        infancy=infancy,
        cage_half_width=cage,
        lung_height=height,
        wall=rng.uniform(0.025, 0.06) + 0.02 * adult,
        neck_half_width=cage * rng.uniform(0.3, 0.42),
        shoulder_half_width=cage * (1.0 + 0.18 * adult * rng.uniform()),
        arm_angle=rng.uniform(0.9, 1.35) if rng.uniform() < 0.15 + 0.7 * adult else rng.uniform(-1.1, 0.1),
        rib_slope=height * (0.46 - 0.14 * infancy) * rng.uniform(0.85, 1.15),
        rib_thickness=height * rng.uniform(0.034, 0.046),
        bone_density=rng.uniform(0.55, 1.35),
        spine_half_width=cage * rng.uniform(0.105, 0.14),
        mediastinum_half_width=cage * rng.uniform(0.14, 0.25),
        heart_left=cage * (rng.uniform(0.36, 0.7) + 0.05 * infancy),
        heart_right=cage * rng.uniform(0.18, 0.38),
        aortic_knob=cage * 0.09 * adult * rng.uniform(),
        thymus=cage * 0.2 * max(0.0, infancy - 0.4) * rng.uniform(),
        right_dome=dome,
        left_dome=dome * rng.uniform(0.65, 0.95),
        breast=rng.uniform(0.4, 1.0) if rng.uniform() < 0.5 * adult else 0.0,
        aeration=rng.uniform(0.6, 0.85),
        vessels=rng.uniform(0.5, 1.15),
        vessel_seed=int(rng.integers(2**32)),
        infection="bacteria" if rng.uniform() < 0.6 else "virus",
    )


@dataclass(frozen=True)
class Projection:
    """The patient's position before the film; maps body coordinates to layers of `(pixels, pixels)`."""

    pixels: int
    scale: float
    tilt: float  # radians
    shift: tuple[float, float]
    turn: float  # radians about the long axis of the body

    def place(self, points: np.ndarray, depth: float | np.ndarray = 0.0) -> np.ndarray:
        """Return pixel coordinates of body points `(n, 2)`; depth is 1 at the back, -1 at the front."""
        x = points[:, 0] + self.turn * DEPTH * depth
        y = points[:, 1]
        cosine, sine = np.cos(self.tilt), np.sin(self.tilt)
        placed = self.scale * np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)
        return (placed + np.asarray(self.shift) + 0.5) * self.pixels

    def fill(self, *shapes: np.ndarray, depth: float = 0.0, edge: float = 0.004) -> np.ndarray:
        """Return a layer that is 1 inside the polygons and 0 outside, blurred over `edge` image widths."""
        layer = np.zeros((self.pixels, self.pixels), np.uint8)
        for shape in shapes:
            cv2.fillPoly(layer, [_fixed_point(self.place(shape, depth))], 255, cv2.LINE_AA, SUBPIXEL_BITS)
        return self.soften(layer, edge)

    def stroke(
        self, layer: np.ndarray, lines: list[np.ndarray], *, thickness: float, gray: int = 255
    ) -> None:
        """Draw lines, given in pixels, into an 8-bit layer, `thickness` image widths wide."""
        wide = max(1, round(thickness * self.scale * self.pixels))
        cv2.polylines(
            layer, [_fixed_point(line) for line in lines], False, gray, wide, cv2.LINE_AA, SUBPIXEL_BITS
        )

    def blank(self) -> np.ndarray:
        """Return an empty 8-bit layer to stroke on."""
        return np.zeros((self.pixels, self.pixels), np.uint8)

    def soften(self, layer: np.ndarray, edge: float) -> np.ndarray:
        """Return an 8-bit layer as floats in [0, 1], blurred over `edge` image widths."""
        return cv2.GaussianBlur(layer.astype(np.float32) / 255.0, (0, 0), edge * self.scale * self.pixels)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    return np.round(points * 2**SUBPIXEL_BITS).astype(np.int32)


def _smooth(points: list[tuple[float, float]]) -> np.ndarray:
    """Return a closed outline with its corners cut off three times (Chaikin)."""
    outline = np.asarray(points, dtype=np.float64)
    for _ in range(3):
        after = np.roll(outline, -1, axis=0)
        outline = np.stack([0.75 * outline + 0.25 * after, 0.25 * outline + 0.75 * after], axis=1).reshape(
            -1, 2
        )
    return outline


def _ellipse(center: tuple[float, float], half_width: float, half_height: float) -> np.ndarray:
    angle = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
    return np.stack([center[0] + half_width * np.cos(angle), center[1] + half_height * np.sin(angle)], axis=1)


def trunk(patient: Patient, projection: Projection) -> np.ndarray:
    """Return the attenuation of soft tissue: neck, shoulders, arms and trunk, thinner towards the skin."""
    p, top, shoulder = patient, patient.y(-0.12), patient.y(0.04)
    half = [
        (p.neck_half_width, -1.2),
        (p.neck_half_width, top - 0.05),
        (p.neck_half_width * 1.3, top),
        (p.shoulder_half_width * 0.7, shoulder - 0.06),
        (p.shoulder_half_width, shoulder),
        (p.shoulder_half_width + 0.03, p.y(0.2)),
        *((float(p.cage(level)) + p.wall, p.y(level)) for level in (0.4, 0.6, 0.85, 1.0)),
        (p.cage_half_width + p.wall * 0.9, p.y(1.2)),
        (p.cage_half_width + p.wall * 0.8, 1.2),
    ]
    layer = projection.blank()
    outline = _smooth(half + [(-x, y) for x, y in reversed(half)])
    cv2.fillPoly(layer, [_fixed_point(projection.place(outline))], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    arms = [projection.place(arm) for arm in _arms(p)]
    projection.stroke(layer, arms, thickness=0.13 + p.wall)
    # Padded, so that the film's edge, beyond which the body continues, is not taken for skin.
    margin = projection.pixels // 4
    framed = cv2.copyMakeBorder(layer, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform((framed > 127).astype(np.uint8), cv2.DIST_L2, 3)[
        margin:-margin, margin:-margin
    ]
    thick = 1.0 - np.exp(-depth / (0.09 * projection.scale * projection.pixels))
    return TRUNK * cv2.GaussianBlur(thick, (0, 0), 0.006 * projection.pixels)


def _arms(patient: Patient) -> list[np.ndarray]:
    direction = np.array([np.cos(patient.arm_angle), np.sin(patient.arm_angle)])
    start = np.array([patient.shoulder_half_width + 0.02, patient.y(0.06)])
    arm = np.stack([start, start + 0.7 * direction])
    return [arm, arm * (-1, 1)]


def lungs(patient: Patient, projection: Projection) -> np.ndarray:
    """Return the share of air, 0 to 1: two lungs, less what heart and mediastinum replace."""
    shapes = [_lung(patient, RIGHT, patient.right_dome), _lung(patient, LEFT, patient.left_dome)]
    return projection.fill(*shapes, edge=0.005) * (1.0 - BEHIND_HEART * heart(patient, projection))


def _lung(patient: Patient, side: int, dome: float) -> np.ndarray:
    """Return a lung's outline: down the wall to the costophrenic angle, over the dome, up the midline."""
    angle_level = 1.16
    level = np.linspace(0.0, angle_level, 30)
    wall = np.stack([patient.cage(level) - 0.008, patient.y(level)], axis=1)
    across = np.linspace(1.0, 0.05, 24)
    foot = patient.y(angle_level)
    arch = np.stack(
        [wall[-1, 0] * across, foot - dome * (1.0 - np.abs(2.0 * across**1.3 - 1.0) ** 2.4)], axis=1
    )
    middle = [(0.012, patient.y(0.9)), (0.012, patient.y(0.15))]
    return np.concatenate([wall, arch, middle]) * (side, 1)


def heart(patient: Patient, projection: Projection) -> np.ndarray:
    """Return a layer of heart, great vessels, thymus and mediastinum, 0 to 1."""
    p, wide = patient, patient.mediastinum_half_width
    left = [
        (wide * 0.8, -0.25),
        (wide * 0.85, 0.1),
        (wide + p.aortic_knob * 1.6 + p.thymus * 0.6, 0.22),
        (wide + p.aortic_knob + p.thymus, 0.3),
        (wide + p.thymus, 0.38),
        (wide * 1.2, 0.46),
        (p.heart_left * 0.62, 0.58),
        (p.heart_left * 0.92, 0.74),
        (p.heart_left * 1.04, 0.9),
        (p.heart_left * 0.9, 1.06),
        (p.heart_left * 0.5, 1.2),
    ]
    right = [
        (p.heart_right * 0.7, 1.2),
        (p.heart_right * 1.05, 0.95),
        (p.heart_right * 1.05, 0.76),
        (p.heart_right * 0.85, 0.58),
        (wide, 0.44),
        (wide + p.thymus, 0.32),
        (wide * 0.9 + p.thymus * 0.5, 0.2),
        (wide * 0.8, -0.25),
    ]
    outline = [(x, p.y(level)) for x, level in left] + [(-x, p.y(level)) for x, level in right]
    return projection.fill(_smooth(outline), depth=-0.5, edge=0.007)


def ribs(patient: Patient, projection: Projection) -> np.ndarray:
    """Return the attenuation of the ribs: bands with dense rims, densest at the chest's sides."""
    back, front = projection.blank(), projection.blank()
    behind = np.linspace(0.1, 0.5, 16) * np.pi
    before = np.linspace(0.5, 0.72, 12) * np.pi
    for layer, angle in ((back, behind), (front, before)):
        lines = [
            _rib(patient, projection, pair, side, angle)
            for pair in range(RIB_PAIRS)
            for side in (RIGHT, LEFT)
        ]
        projection.stroke(layer, lines, thickness=patient.rib_thickness)
        projection.stroke(layer, lines, thickness=patient.rib_thickness * 0.45, gray=165)
    level = np.linspace(0.05, 1.4, 24)
    side_wall = np.stack([patient.cage(level) - 0.005, patient.y(level)], axis=1)
    rim = projection.blank()
    projection.stroke(
        rim,
        [projection.place(side_wall), projection.place(side_wall * (-1, 1))],
        thickness=patient.rib_thickness * 0.8,
    )
    bands = RIB_BACK * projection.soften(back, 0.003) + RIB_FRONT * projection.soften(front, 0.006)
    return patient.bone_density * bands * (1.0 + RIB_EDGE * projection.soften(rim, 0.008))


def _rib(patient: Patient, projection: Projection, pair: int, side: int, angle: np.ndarray) -> np.ndarray:
    """Return pixels along one rib, a tilted ring; the angle is 0 at the spine and pi at the sternum."""
    start = patient.y(-0.06 + 0.098 * pair)
    fall = 0.5 * patient.rib_slope * min(1.0, 0.45 + 0.1 * pair)
    side_level = (start + fall) / patient.lung_height + 0.53
    wide = float(patient.cage(side_level))
    points = np.stack([side * wide * np.sin(angle), start + fall * (1.0 - np.cos(angle))], axis=1)
    return projection.place(points, depth=np.cos(angle))


def spine(patient: Patient, projection: Projection) -> np.ndarray:
    """Return the attenuation of the vertebrae, one per pair of ribs, with darker discs and pedicles."""
    half, step = patient.spine_half_width, 0.098 * patient.lung_height
    bodies, pedicles = [], []
    for index in range(-6, RIB_PAIRS + 8):
        y = patient.y(-0.06) + step * index
        body = [(-half, y - 0.43 * step), (half, y - 0.43 * step), (half * 0.88, y), (half, y + 0.43 * step)]
        bodies.append(_smooth([*body, (-half, y + 0.43 * step), (-half * 0.88, y)]))
        pedicles += [
            _ellipse((side * half * 0.62, y - 0.1 * step), half * 0.2, step * 0.2) for side in (-1, 1)
        ]
        pedicles.append(_ellipse((0.0, y + 0.3 * step), half * 0.14, step * 0.3))
    column = VERTEBRA * projection.fill(*bodies, depth=0.8, edge=0.004)
    return patient.bone_density * (column + PEDICLE * projection.fill(*pedicles, depth=1.0, edge=0.003))


def shoulder_girdle(patient: Patient, projection: Projection) -> np.ndarray:
    """Return the attenuation of clavicles, scapulae and humeri, which follow the arms."""
    p, lift = patient, 0.05 * np.cos(patient.arm_angle) * (1 if patient.arm_angle < 0.5 else 0)
    inner, outer = p.mediastinum_half_width * 0.75, p.shoulder_half_width + 0.01
    along = np.linspace(0.0, 1.0, 16)
    rise = p.y(0.17) + (p.y(0.0) - lift - p.y(0.17)) * along + 0.018 * np.sin(2 * np.pi * along)
    clavicle = np.stack([inner + (outer - inner) * along, rise], axis=1)
    layer = projection.blank()
    clavicles = [projection.place(clavicle * (side, 1), depth=-0.9) for side in (RIGHT, LEFT)]
    projection.stroke(layer, clavicles, thickness=p.rib_thickness * 1.1)
    projection.stroke(layer, clavicles, thickness=p.rib_thickness * 0.5, gray=170)
    out = 0.04 + (0.03 if p.arm_angle < 0.5 else 0.0)
    blade = _smooth(
        [
            (outer + out, p.y(0.05)),
            (outer - 0.05, p.y(0.1)),
            (outer - 0.1, p.y(0.22)),
            (outer - 0.02, p.y(0.55)),
        ]
    )
    arms = projection.blank()
    projection.stroke(arms, [projection.place(arm, depth=0.2) for arm in _arms(p)], thickness=0.035)
    bones = CLAVICLE * projection.soften(layer, 0.003) + HUMERUS * projection.soften(arms, 0.004)
    return p.bone_density * (bones + SCAPULA * projection.fill(blade, blade * (-1, 1), edge=0.004))


def vessels(patient: Patient, projection: Projection) -> np.ndarray:
    """Return a layer of the hilar vessels, 0 to about 1, branching and thinning towards the periphery."""
    rng = np.random.default_rng(patient.vessel_seed)
    twigs: list[np.ndarray] = []
    branches: list[np.ndarray] = []
    hila: list[np.ndarray] = []
    for side in (RIGHT, LEFT):
        root = np.array([side * (patient.mediastinum_half_width + 0.012), patient.y(0.46 - 0.02 * side)])
        for angle in np.linspace(-1.35, 1.5, 9) + rng.normal(0.0, 0.12, 9):
            branch = _walk(rng, root, angle, side, length=patient.lung_height * rng.uniform(0.3, 0.5))
            hila.append(branch[:3])
            branches.append(branch)
            for knot in (2, 3, 4):
                fork = angle + rng.choice((-1, 1)) * rng.uniform(0.35, 0.8)
                twigs.append(
                    _walk(rng, branch[knot], fork, side, length=patient.lung_height * rng.uniform(0.12, 0.3))
                )
    layer = projection.blank()
    for lines, thickness, gray in ((twigs, 0.004, 90), (branches, 0.006, 135), (hila, 0.013, 215)):
        projection.stroke(layer, [projection.place(line) for line in lines], thickness=thickness, gray=gray)
    return patient.vessels * projection.soften(layer, 0.0035)


def _walk(
    rng: np.random.Generator, start: np.ndarray, angle: float, side: int, *, length: float
) -> np.ndarray:
    """Draw a wandering line of seven points away from `start`."""
    angles = angle + np.cumsum(rng.normal(0.0, 0.22, 6))
    steps = np.stack([side * np.cos(angles), np.sin(angles)], axis=1) * length / 6.0
    return start + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def breasts(patient: Patient, projection: Projection) -> np.ndarray:
    """Return the attenuation of the breasts, blurred discs; 0 if the patient has none."""
    size = patient.cage_half_width * (0.35 + 0.15 * patient.breast)
    rounds = [
        _ellipse((side * patient.cage_half_width * 0.62, patient.y(0.82)), size, size)
        for side in (RIGHT, LEFT)
    ]
    return BREAST * patient.breast * projection.fill(*rounds, depth=-1.0, edge=0.02)


def gas(patient: Patient, projection: Projection, rng: np.random.Generator) -> np.ndarray:
    """Return the share of attenuation, 0 to 1, removed by air in the trachea and sometimes the stomach."""
    fork, half = patient.y(0.36), patient.spine_half_width
    tube = np.array([(0.0, -1.0), (0.0, patient.y(0.0)), (-0.12 * half, fork)])
    bronchi = [np.array([tube[-1], (side * half * 1.6, fork + 0.06)]) for side in (RIGHT, LEFT)]
    trachea = projection.blank()
    projection.stroke(trachea, [projection.place(line) for line in (tube, *bronchi)], thickness=half * 0.55)
    center = (patient.cage_half_width * rng.uniform(0.4, 0.6), patient.y(1.2) + 0.02)
    bubble = _ellipse(center, patient.cage_half_width * 0.3, patient.cage_half_width * rng.uniform(0.12, 0.2))
    stomach = max(0.0, rng.uniform(-0.8, 1.0)) * projection.fill(bubble, edge=0.008)
    return TRACHEA_AIR * projection.soften(trachea, 0.006) + STOMACH_AIR * stomach
