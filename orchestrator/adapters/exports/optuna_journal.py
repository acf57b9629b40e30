"""The sweep as an Optuna study in a journal file, which optuna-dashboard opens. Login node.

What becomes of trials, parameters and states is said in ``adapters.optuna_study``. The objective's
curve is each trial's intermediate values. Runs on fresh seeds (``make confirm``) had no part in the
choice, and the luckiest of them would be Optuna's best trial: they are a second study. The file is
new at each export and renamed into place, so that exporting twice doubles nothing, and a dashboard
that has it open keeps the old one.
"""

from __future__ import annotations

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from orchestrator.adapters.exports.publish import publish
from orchestrator.adapters.exports.source import Exported, ExportSource
from orchestrator.adapters.exports.viewers import open_with
from orchestrator.adapters.optuna_study import quiet_optuna, to_study

FILE = "optuna.journal"


def write(source: ExportSource, folder: str) -> Exported:
    """Write ``optuna.journal``."""
    metric = source.board.summary.metric
    curves = {}
    for trial in source.trials:
        found = source.curves(trial).get(metric, {}) if metric is not None else {}
        if found:
            curves[trial.name] = found

    own = [trial for trial in source.trials if source.purpose(trial) == "search"]
    fresh = [trial for trial in source.trials if source.purpose(trial) == "confirm"]
    fresh_name = f"{source.board.summary.name} (fresh seeds)"

    def write_study(path: str) -> None:
        with quiet_optuna():
            # Nobody else knows the file yet; this lock needs no symbolic links.
            backend = JournalFileBackend(path, lock_obj=JournalFileOpenLock(path))
            storage = JournalStorage(backend)
            to_study(source.board, own, storage, curves)
            if fresh:
                to_study(source.board, fresh, storage, curves, fresh_name)

    path = publish(folder, FILE, write_study, is_folder=False)
    notes = [f"runs on fresh seeds are a study of their own: {fresh_name}"] if fresh else []
    return Exported([path], [*notes, *open_with("open it with", ["optuna-dashboard", path])])
