"""The sweep as an Optuna study in a journal file, which optuna-dashboard opens. Login node.

What becomes of trials, parameters and states is said in ``adapters.optuna_study``. The objective's
curve is each trial's intermediate values. The file is new at each export and renamed into place, so
that exporting twice gives one study, and a dashboard that has it open keeps the old one.
"""

from __future__ import annotations

import shlex

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from orchestrator.adapters.exports.publish import publish
from orchestrator.adapters.exports.source import Exported, ExportSource
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

    def write_study(path: str) -> None:
        with quiet_optuna():
            # Nobody else knows the file yet; this lock needs no symbolic links.
            backend = JournalFileBackend(path, lock_obj=JournalFileOpenLock(path))
            to_study(source.board, source.trials, JournalStorage(backend), curves)

    path = publish(folder, FILE, write_study, is_folder=False)
    return Exported([path], [f"open it with: optuna-dashboard {shlex.quote(path)}"])
