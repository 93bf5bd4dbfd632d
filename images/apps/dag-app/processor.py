"""A stand-in for Airflow's DAG processor: imports every file of the DAG folder again and again, and says what changed.

A line for each DAG that is new or different, for each that is gone, and for each file that can't be imported."""

import importlib
import os
import pathlib
import signal
import sys
import time
import traceback

from airflow.sdk import DAG

FOLDER = pathlib.Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
PERIOD = 0.2


def look():
    """DAGs by their id, as text; and why files have none."""
    dags, errors = {}, {}
    # The link may point elsewhere a moment later: one look is one commit.
    folder = FOLDER.resolve()
    sys.path.insert(0, str(folder))
    known = set(sys.modules)
    try:
        for file in sorted(folder.glob("*.py")):
            try:
                importlib.invalidate_caches()
                found = vars(importlib.import_module(file.stem)).values()
            except Exception:
                errors[file.name] = traceback.format_exc(limit=0).strip().splitlines()[-1]
                continue
            for dag in (value for value in found if isinstance(value, DAG)):
                dags[dag.dag_id] = f"{dag.schedule}: {' >> '.join(task.name for task in dag.tasks)}"
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - known:
            del sys.modules[name]
    return dags, errors


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.dont_write_bytecode = True
    before = ({}, {})
    while True:
        now = look()
        for kind, old, new in zip(("dag", "error in"), before, now):
            for name in sorted(old.keys() | new.keys()):
                if old.get(name) != new.get(name):
                    print(f"{kind} {name} {new.get(name, 'gone')}", flush=True)
        before = now
        time.sleep(PERIOD)


main()
