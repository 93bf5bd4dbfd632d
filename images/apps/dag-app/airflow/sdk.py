"""As much of Airflow's interface for authors as the DAGs of a test need: a DAG knows its tasks, and their order."""

import contextvars

_current = contextvars.ContextVar("dag")


class DAG:
    def __init__(self, dag_id, schedule=None):
        self.dag_id, self.schedule, self.tasks = dag_id, schedule, []

    def __enter__(self):
        self.token = _current.set(self)
        return self

    def __exit__(self, *_):
        _current.reset(self.token)


class Task:
    def __init__(self, name):
        self.name = name
        _current.get().tasks.append(self)

    def __rshift__(self, after):
        tasks = _current.get().tasks
        if tasks.index(after) < tasks.index(self):
            raise ValueError(f"{after.name} comes before {self.name}")
        return after


def task(function):
    """Calling the decorated function makes a task of the DAG around it."""
    return lambda: Task(function.__name__)
