"""What compression costs: parameters, FLOPs and milliseconds of a student against what it keeps of its teacher."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.comparison import labels
from analysis.fronts import pick
from analysis.load import StudyData

COSTS = ("parameters", "image_flops", "text_flops", "image_ms", "text_ms")
_COLUMNS = {
    **dict.fromkeys(("study", "trial", "strategy"), "str"),
    "split": "str",
    **{name: "float64" for cost in COSTS for name in (cost, f"{cost}_share")},
    **dict.fromkeys(("map_kept", "lift_kept"), "float64"),
    "is_pick": "bool",
    "device": "str",
}


def compression(studies: Sequence[StudyData]) -> pd.DataFrame:
    """A row a member of each study's front: study, trial, strategy, split, costs, and what is kept.

    Of each of ``COSTS`` the student's own and, with ``_share``, its share of the teacher's: parameters, FLOPs of encoding
    one image and one text, computed, and milliseconds of each, measured side by side in batches of 64 on ``device``.
    FLOPs and milliseconds are those of the study's student; where trials differ in size, of the one that the
    configuration gives, so that they are NaN for a trial of other parameters.
    ``map_kept`` is the share of the teacher's mAP and ``lift_kept`` that of its VQA accuracy above chance, both on
    ``split``: test where it was scored, else validation. ``is_pick`` marks the best compromise. NaN is what is not known.
    """
    rows = []
    for study, name in zip(studies, labels(studies), strict=True):
        teacher, encoding = study.teacher, study.teacher.encoding if study.teacher else None
        if teacher is None:
            continue
        members = study.trials[study.trials["on_front"]].reset_index(drop=True)
        chosen = pick(members, study.objectives).compromise if len(members) else None
        for place, member in members.iterrows():
            parameters = float(member["parameters"]) if not pd.isna(member["parameters"]) else np.nan
            row = {"study": name, "trial": member["trial"], "strategy": member["strategy"], "is_pick": place == chosen}
            row |= {"parameters": parameters, "parameters_share": parameters / teacher.parameters, "device": ""}
            if encoding is not None and parameters == encoding.student.parameters:
                row["device"] = f"{encoding.device}, threads: {encoding.threads}, {encoding.precision}"
                for cost in COSTS[1:]:
                    own, whole = float(getattr(encoding.student, cost)), float(getattr(encoding.teacher, cost))
                    row |= {cost: own, f"{cost}_share": own / whole if whole else np.nan}
            test = study.test_metrics.get(str(member["trial"]))
            is_tested = test is not None and "test" in teacher.metrics
            scores = test if test is not None and is_tested else dict(member)
            whole_map = teacher.metrics["test" if is_tested else "validation"].get("retrieval_map", np.nan)
            row["split"] = "test" if is_tested else "validation"
            row["map_kept"] = float(scores.get("retrieval_map", np.nan)) / whole_map if whole_map else np.nan
            row["lift_kept"] = float(scores.get("vqa_lift_kept", np.nan))
            rows.append(row)
    table = pd.DataFrame(rows, columns=[*_COLUMNS])
    return table.astype(_COLUMNS)
