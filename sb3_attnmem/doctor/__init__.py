"""Diagnoses: how much memory an environment asks for, and why an agent does not learn."""

from sb3_attnmem.doctor.environment import EnvironmentReport, diagnose_env
from sb3_attnmem.doctor.findings import Finding, Report
from sb3_attnmem.doctor.need import MemoryNeed
from sb3_attnmem.doctor.run import diagnose_run

__all__ = ["EnvironmentReport", "Finding", "MemoryNeed", "Report", "diagnose_env", "diagnose_run"]
