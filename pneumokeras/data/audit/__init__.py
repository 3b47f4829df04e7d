"""A look at the folder before anything is trained on it: what would make a model's figures wrong."""

from pneumokeras.data.audit.auditing import audit
from pneumokeras.data.audit.results import Audit

__all__ = ["Audit", "audit"]
