"""What a spec can name: methods, optimizers, tasks, models. All of it is read from registries."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api.catalogue import models as models_below
from api.problem_details import documented
from api.schemas import MethodView, MetricView, ModelView, OptimizerView, TaskView
from api.service import Here
from api.views import method_view, optimizer_view
from evals import harness
from search.optimizer import optimizers
from search.spec import SearchSpec
from workers.merging.merge_method import methods

router = APIRouter(tags=["catalogue"])


@router.get("/methods", operation_id="listMethods", responses=documented())
def list_methods() -> list[MethodView]:
    """Merge methods and their parameters."""
    return [method_view(method.declaration) for method in methods]


@router.get("/optimizers", operation_id="listOptimizers", responses=documented())
def list_optimizers() -> list[OptimizerView]:
    """Optimizers and the JSON schemas of their options."""
    return [optimizer_view(optimizer) for optimizer in optimizers]


@router.get("/tasks", operation_id="listTasks", responses=documented())
def list_tasks(here: Here) -> list[TaskView]:
    """Tasks that can be objectives, with their metrics."""
    return [
        TaskView(
            name=task.name,
            output_type=task.output_type,
            metrics=[
                MetricView(name=name, higher_is_better=higher)
                for name, higher in task.metrics.items()
            ],
            examples=dict(task.examples),
        )
        for task in harness.catalogue(
            harness.Library(here.settings.tasks, here.settings.trusted_tasks)
        )
    ]


@router.get("/models", operation_id="listModels", responses=documented())
def list_models(here: Here) -> list[ModelView]:
    """Checkpoints and LoRA adapters below the model roots; a spec names them by their paths."""
    return models_below(here.settings.roots)


@router.get("/schemas/spec", operation_id="getSpecSchema", responses=documented())
def spec_schema() -> dict[str, Any]:
    """The JSON schema of a search spec, for editors."""
    return SearchSpec.model_json_schema()
