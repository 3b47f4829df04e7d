"""A look at the folder before anything is trained on it: what would make a model's figures wrong."""

from pneumokeras.data.audit.audit_data import audit
from pneumokeras.data.audit.results import Audit

__all__ = ["Audit", "audit"]
