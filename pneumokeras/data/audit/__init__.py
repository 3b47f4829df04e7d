"""Look for anything that would make a model's metrics wrong, before training."""

from pneumokeras.data.audit.audit_data import audit
from pneumokeras.data.audit.results import Audit

__all__ = ["Audit", "audit"]
