"""doctor: a first version for trying the frame."""
from __future__ import annotations

from pydantic import Field

from ..action import Action, Inputs, Outputs, Result
from ..job import Job


class DoctorInputs(Inputs):
    """What `doctor` takes."""


class DoctorOutputs(Outputs):
    """What `doctor` gives."""

    ready: bool = Field(description="Whether everything that the configuration asks for is there.")


def run(inputs: DoctorInputs, job: Job) -> Result[DoctorOutputs]:
    """Check."""
    job.store.put("doctor/probe", b"x")
    return Result(DoctorOutputs(ready=True), reason="Everything that is asked for is there")


ACTION = Action("doctor", "Say what is missing and how to fix it.", "core", DoctorInputs, DoctorOutputs, run, icon="heart")
