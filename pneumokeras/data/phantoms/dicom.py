"""Phantoms as DICOM files: uncompressed Secondary Capture images, marked as synthetic."""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO

import numpy as np

from pneumokeras.core.errors import SettingsError


def dicom_bytes(pixels: np.ndarray, *, patient: str) -> bytes:
    """Return the DICOM file of one phantom: the same bytes for the same pixels and patient.

    Args:
        pixels: `(height, width)` array of `uint8`.
        patient: the header's PatientID.

    Returns:
        A Part 10 file: MONOCHROME2, 8 bits, Explicit VR Little Endian.

    Raises:
        SettingsError: if pydicom is not installed.

    Reference: DICOM PS3.3, A.8.1 (Secondary Capture Image IOD).
    """
    try:
        import pydicom
        from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
    except ImportError as error:
        raise SettingsError(
            "Writing DICOM files needs pydicom. Install it with: pip install 'pneumokeras[dicom]'",
            parameter="image_format",
        ) from error
    identity = [patient, sha256(pixels.tobytes()).hexdigest()]
    header = pydicom.Dataset()
    header.SOPClassUID = SecondaryCaptureImageStorage
    header.SOPInstanceUID = generate_uid(entropy_srcs=[*identity, "instance"])
    header.StudyInstanceUID = generate_uid(entropy_srcs=[*identity, "study"])
    header.SeriesInstanceUID = generate_uid(entropy_srcs=[*identity, "series"])
    header.PatientID = patient
    header.PatientName = "Phantom^Synthetic"
    header.Modality = "DX"
    header.ConversionType = "SYN"
    header.ImageType = ["DERIVED", "SECONDARY"]
    header.SeriesDescription = "Synthetic drawing by pneumokeras: no patient"
    header.BodyPartExamined = "CHEST"
    header.BurnedInAnnotation = "NO"
    header.InstanceNumber = header.SeriesNumber = 1
    # Required by the standard, but may be empty.
    header.PatientBirthDate = header.PatientSex = header.PatientOrientation = ""
    header.StudyDate = header.StudyTime = header.StudyID = header.AccessionNumber = ""
    header.ReferringPhysicianName = ""
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation = 7, 0
    header.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = BytesIO()
    pydicom.dcmwrite(file, header, enforce_file_format=True)
    return file.getvalue()
