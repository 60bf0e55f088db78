"""Keys and values that no study can have, on the command line, where most are tried first."""

from __future__ import annotations

import pytest

from tests.bad_input.refusing import Refused, as_said

# What is overridden, and what is said. Where an override breaks something in the file, the file's key is named.
VALUES = [
    ("serch.trials=3", "--set: unknown key serch: did you mean search?"),
    ("search.trails=3", "--set: unknown key search.trails: did you mean search.trials?"),
    ("teacher.model.image.layer=3", "--set: unknown key teacher.model.image.layer: did you mean teacher.model.image.layers?"),
    ("search.constraints.vqa_std.mox=3", "--set: unknown key search.constraints.vqa_std.mox: did you mean search.constraints.vqa_std.max?"),
    ("zzz=3", "--set: unknown key zzz: there are name, seed, storage, data, teacher, cache, student, training, search, resources, tracking"),
    ("search.trials=many", "--set: search.trials: should be a whole number, not 'many'"),
    ("search.trials=true", "--set: search.trials: should be a whole number, not True"),
    ("search.trials=0", "--set: search.trials: should be at least 1, not 0"),
    ("search.trials=1.5", "--set: search.trials: should be a whole number, not 1.5"),
    ("search.trials=", "--set: search.trials: should be a whole number, not empty"),
    ("training=fast", "--set: training: should be a section of keys and values, not 'fast'"),
    ("search=[a]", "--set: search: should be a section of keys and values, not ['a']"),
    ("data.languages=en", "--set: data.languages: should be a list, as [en, de] or [10, 20], not 'en'"),
    ("data.languages=[en, 3]", "--set: data.languages.1: should be text (put it in quotes), not 3"),
    ("tracking.tensorboard=maybe", "--set: tracking.tensorboard: should be true or false, not 'maybe'"),
    ("tracking.mlflow=3", "--set: tracking.mlflow: should be text (put it in quotes), not 3"),
    ("resources.concurrent_trials=some", "--set: resources.concurrent_trials: should be a whole number or 'auto', not 'some'"),
    ("resources.concurrent_trials=0", "--set: resources.concurrent_trials: should be at least 1 or 'auto', not 0"),
    ("resources.gpus_per_worker=1.5", "--set: resources.gpus_per_worker: 1.5 is neither a share of one GPU nor a whole number"),
    ("resources.prefetch=-1", "--set: resources.prefetch: should be at least 0, not -1"),
    ("resources.compile=inductor", "--set: resources.compile: should be true or false, not 'inductor'"),
    ("resources.gpus_per_worker=-1", "--set: resources.gpus_per_worker: should be at least 0, not -1"),
    ("resources={workers_per_trial: 2, gpus_per_worker: 0.5}", "--set: resources.gpus_per_worker: with 0.5, several of the 2 workers of a trial may share a GPU, where NCCL does not let them exchange gradients: make it 1, or workers_per_trial 0 or 1"),
    ("resources.retries=-1", "--set: resources.retries: should be at least 0, not -1"),
    ("training.warmup=.nan", "--set: training.warmup: should be a finite number, not nan"),
    ("training.warmup=1", "--set: training.warmup: should be less than 1, not 1"),
    ("training.decay=2", "--set: training.decay: should be at most 1, not 2"),
    ("training.batch_size=1", "--set: training.batch_size: should be at least 2, not 1"),
    ("training.precision=fp16", "--set: training.precision: should be 'auto', 'bf16' or 'fp32' (did you mean bf16?), not 'fp16'"),
    ("training.schedule=linear", "--set: training.schedule: should be 'wsd' or 'cosine', not 'linear'"),
    (("training.warmup=0.5", "training.decay=0.6"), "--set: training.warmup: 0.5 and decay, 0.6, are more than all steps: at most 1 together"),
    (("training.batch_size=64", "resources.workers_per_trial=3"), "--set: training.batch_size: 64 is not a multiple of resources.workers_per_trial, 3"),
    (("training.batch_size=64", "training.accumulation=3"), "--set: training.accumulation: 3 does not divide training.batch_size, 64"),
    (("training.batch_size=4", "training.accumulation=4", "resources.workers_per_trial=2"), "--set: training.accumulation: 4 times resources.workers_per_trial, 2 does not divide training.batch_size, 4"),
    ("seed=-1", "--set: seed: should be at least 0, not -1"),
    ("seed=4294967296", "--set: seed: should be less than 2147483648, not 4294967296"),
    ("search.hours=0", "--set: search.hours: should be more than 0, not 0"),
    ("search.patience=0", "--set: search.patience: should be at least 1, not 0"),
    ("search.sampler=nsga", "--set: search.sampler: should be 'tpe', 'tpe_grouped', 'nsga2', 'gp' or 'random' (did you mean nsga2?), not 'nsga'"),
    ("search.scheduler.kind=asha", "--set: search.scheduler.kind: should be 'moasha' or 'none' (did you mean moasha?), not 'asha'"),
    ("search.objectives={retrieval_mapp: maximise, vqa_std: minimise}", "--set: search.objectives.retrieval_mapp: should be one of retrieval_map, vqa_variance, vqa_std, vqa_accuracy, vqa_lift_kept, or @ and the name of a set after it (did you mean retrieval_map?)"),
    ("search.objectives.vqa_variance=minimize", "--set: search.objectives.vqa_variance: should be 'maximise' or 'minimise' (did you mean minimise?), not 'minimize'"),
    ("search.objectives={retrieval_map: maximise}", "--set: search.objectives: a Pareto front needs at least two objectives, of retrieval_map, vqa_variance, vqa_std, vqa_accuracy, vqa_lift_kept"),
    ("search.objectives=[retrieval_map, vqa_std]", "--set: search.objectives: should be a section of keys and values, not ['retrieval_map', 'vqa_std']"),
    ("search.constraints={vqa_std: {}}", "--set: search.constraints.vqa_std: a constraint needs a min or a max"),
    ("search.constraints={vqa_std: {min: 3.0, max: 2.0}}", "--set: search.constraints.vqa_std: no value is at least 3 and at most 2"),
    ("search.constraints={vqa_std: 3}", "--set: search.constraints.vqa_std: should be a section of keys and values, not 3"),
    ("search.constraints={vqa_accuracy: {min: 45.0}}", "--set: search.constraints.vqa_accuracy.min: no trial reaches 45, since vqa_accuracy is at most 1: as a share, 45 % is 0.45"),
    ("search.constraints={vqa_lift_kept: {min: 80.0}}", "--set: search.constraints.vqa_lift_kept.min: no trial reaches 80, since vqa_lift_kept is at most 2: as a share, 80 % is 0.8"),
    ("search.constraints={vqa_std: {max: -1.0}}", "--set: search.constraints.vqa_std.max: no trial goes down to -1, since vqa_std is at least 0"),
    ("search.constraints={vqa_variance: {min: 3000.0}}", "--set: search.constraints.vqa_variance.min: no trial reaches 3000, since vqa_variance is at most 2500"),
    ("search.constraints={retrieval: {min: 0.1}}", "--set: search.constraints.retrieval: should be one of retrieval_map, vqa_variance, vqa_std, vqa_accuracy, vqa_lift_kept, or @ and the name of a set after it (did you mean retrieval_map?)"),
    ("search.scheduler.rungs=[30, 80]", "--set: search.scheduler.rungs: rung 80 is not below training.steps, 80"),
    ("search.scheduler.rungs=[30, 20]", "--set: search.scheduler.rungs: rungs [30, 20] are not strictly increasing"),
    ("search.scheduler.rungs=[0]", "--set: search.scheduler.rungs.0: should be at least 1, not 0"),
    ("search.scheduler.rungs=30", "--set: search.scheduler.rungs: should be a list, as [en, de] or [10, 20], not 30"),
    ("search.scheduler.brackets=5", "--set: search.scheduler.brackets: 5 are more than the 1 rungs, one for each at most"),
    ("search.scheduler.reduction=1", "--set: search.scheduler.reduction: should be more than 1, not 1"),
    ("search.scheduler.evaluation_share=15", "--set: search.scheduler.evaluation_share: should be at most 1, not 15"),
    ("search.confirm.seed=1", "--set: unknown key search.confirm.seed: did you mean search.confirm.seeds?"),
    ("search.limits.memory_gb=0", "--set: search.limits.memory_gb: should be more than 0, not 0"),
    ("search.limits.memory=4", "--set: unknown key search.limits.memory: did you mean search.limits.memory_gb?"),
    ("student.text.layers=5", "--set: student.text.layers: 5 cannot be mapped into the teacher's 4 layers (teacher.model.text.layers): at most 4"),
    ("student.text.layers=0", "--set: student.text.layers: should be a whole number from 1 on, or a share of the teacher's, above 0.0 and up to 1.0, not 0"),
    ("student.text.layers=1.5", "--set: student.text.layers: should be a whole number from 1 on, or a share of the teacher's, above 0.0 and up to 1.0, not 1.5"),
    ("student.text.width=0.0", "--set: student.text.width: should be a whole number from 1 on, or a share of the teacher's, above 0.0 and up to 1.0, not 0.0"),
    ("student.text.width=half", "--set: student.text.width: should be a whole number from 1 on, or a share of the teacher's, above 0.0 and up to 1.0, not 'half'"),
    ("student.text.layers=true", "--set: student.text.layers: should be a whole number from 1 on, or a share of the teacher's, above 0.0 and up to 1.0, not True"),
    ("student.image.width=100", "--set: student.image.width: 100 is not a multiple of the head width 64; a share, such as 0.5, comes to whole heads"),
    ("student.image.image_size=40", "--set: student.image.image_size: 40 is not a multiple of the patch size 16"),
    ("student.image.patch_size=9", "emoji_clip.yaml: student.image.image_size: 48 is not a multiple of the patch size 9"),
    ("student.image.image_size=64", "--set: student.image.image_size: 64 is more than the pictures have, 48 (teacher.model.image.image_size)"),
    ("student.text.context_length=33", "--set: student.text.context_length: 33 is more than the teacher's 32 (teacher.tokenizer.context_length)"),
    ("student.text.context_length=3", "--set: student.text.context_length: should be at least 4, not 3"),
    ("student.vocabulary=trim", "--set: student.vocabulary: should be 'full' or 'trimmed' (did you mean trimmed?), not 'trim'"),
    ("student.inherit=first", "--set: student.inherit: should be 'important' or 'leading', not 'first'"),
    ("teacher.model.text.width=100", "--set: teacher.model.text.width: 100 is not a multiple of the head width 64"),
    ("teacher.model.image.image_size=50", "--set: teacher.model.image.image_size: 50 is not a multiple of the patch size 16"),
    ("teacher.family=siglip", "--set: teacher.family: should be 'clip' or 'siglip2' (did you mean siglip2?), not 'siglip'"),
    ("teacher.family=siglip2", "emoji_clip.yaml: teacher.fit.softmax_share: siglip2 needs a number, for example 0.7 (0: the sigmoid loss alone)"),
    ("teacher.fit.softmax_share=0.5", "--set: teacher.fit.softmax_share: 0.5 is for siglip2: clip has a softmax throughout; make it null"),
    ("teacher.fit.softmax_share=1.0", "--set: teacher.fit.softmax_share: should be less than 1, not 1.0"),
    ("teacher.tokenizer.vocab_size=10", "--set: teacher.tokenizer.vocab_size: should be at least 300, not 10"),
    ("teacher.revision=main", "--set: teacher.revision: main is for a pretrained teacher: name it as teacher.pretrained"),
    ("teacher.pretrained=google/siglip2-base-patch16-224", "emoji_clip.yaml: teacher.model: a pretrained teacher has its own: leave out either model or pretrained"),
    ("cache.views=0", "--set: cache.views: should be at least 1, not 0"),
    ("name=a/b", "--set: name: should be letters, digits, '.', '_' and '-', beginning with one of the first two, not 'a/b'"),
    ("name=..", "--set: name: should be letters, digits, '.', '_' and '-', beginning with one of the first two, not '..'"),
    ("name=", "--set: name: should be text, not empty"),
    ("storage.optuna=postgresql://me:secret@host/db", "--set: storage.optuna: should be sqlite, or env:NAME for a URL in the environment variable NAME: here it would be written down"),
    ("storage.path=https://host/runs", "--set: storage.path: 'https://host/runs' is no store that can be written: write it as s3://bucket/studies"),
    ("storage.path=s3://me:secret@bucket/runs", "--set: storage.path: s3://bucket has a user or a password before it, which would be written down: leave them to the environment, for example AWS_ACCESS_KEY_ID, or to ~/.netrc for HTTP"),
    ("storage.path=s3://bucket/runs", "emoji_clip.yaml: storage.optuna: sqlite is a file, which cannot lie at s3://bucket/runs (storage.path): name a database, env:NAME for a URL in the environment variable NAME"),
    ("storage.path=''", "--set: storage.path: should not be empty: the folder that the command runs in is written as ."),
    ("resources.cpus_per_worker=.inf", "--set: resources.cpus_per_worker: should be a finite number, not inf"),
    ("data.vqa=null", "--set: data.vqa: should be a section of keys and values, not empty"),
    ("storage.path=3", "--set: storage.path: should be text (put it in quotes), not 3"),
    ("search.space=fuller", "search.space: no space 'fuller': did you mean full? there are full, mix, paper, or the path of a file"),
    ("search.sampler=gp", "search.sampler: gp models a space as a whole, but 11 of the 20 entries of full are conditional (they have a when): take search.space: mix, or search.sampler: tpe"),
]  # fmt: skip
# The same, of where data comes from.
DATA = [
    ("data.languages=[en, xx]", "--set: data.languages: the emoji data of train has no language 'xx': it has en es ja ko pt it fr de fa id zh ru tr ar"),
    ("data.languages=[en, es, es]", "--set: data.languages: 'es' is listed twice"),
    ("data.languages=[es, ja]", "--set: data.languages: English (en) is the control language of strategy ed and must be listed"),
    ("data.languages=[en]", "--set: data.languages: a variance over languages needs at least two of them"),
    ("data.languages=[en, EN]", "--set: data.languages: 'EN' is no language code such as de, pt-BR or zh-Hant (BCP 47)"),
    ("data.retrieval.split=test", "--set: data.retrieval: it and data.test.retrieval use the same items, so that scores mean nothing: train, retrieval, vqa and test must use different splits, or shares of one (with one share_seed) that do not overlap, for example share: [0, 0.9] and share: [0.9, 1]"),
    ("data.train.split=test", "--set: data.train.split: only the split train has training pictures, not test"),
    ("data.train.splt=test", "--set: unknown key data.train.splt: did you mean data.train.split?"),
    ("data.train.split=tset", "--set: data.train.split: should be 'train', 'validation', 'test' or 'novel' (did you mean test?), not 'tset'"),
    ("data.train=emoji", "--set: data.train: should be a section of keys and values, not 'emoji'"),
    ("data.train={source: emojo}", "--set: data.train.layout: emojo needs one, wide or per_language; or did you mean source: emoji?"),
    ("data.train={source: a.csv, layout: wid}", "--set: data.train.layout: should be wide or per_language (did you mean wide?), not 'wid'"),
    ("data.vqa={source: a.csv, layout: wide}", "--set: data.vqa.layout: should be cvqa, not 'wide'"),
    ("data.train={layout: wide}", "--set: data.train.source: is required"),
    ("data.train={source: a.csv, layout: wide, imge: x}", "--set: unknown key data.train.imge: did you mean data.train.image?"),
    ("data.train={source: a.csv, layout: wide, columns: caption}", "--set: data.train.columns: 'caption' has no {language}: it would be the same column in every language"),
    ("data.train={source: a.csv, layout: wide, columns: {en: x}}", "--set: data.train.columns: none for language es: there are en"),
    ("data.train={source: a.csv, layout: wide, columns: 3}", "--set: data.train.columns: should be text (put it in quotes) or a section of keys and values, not 3"),
    ("data.train={source: a.csv, layout: wide, share: [0.5, 0.5]}", "--set: data.train.share: from 0.5 to 0.5 is no part of the items: the first must be smaller"),
    ("data.train={source: a.csv, layout: wide, share: 0.9}", "--set: data.train.share: should be a list, as [en, de] or [10, 20], not 0.9"),
    ("data.train={source: a.csv, layout: wide, share: [0, 90]}", "--set: data.train.share.1: should be at most 1, not 90"),
    ("data.train={source: a.csv, layout: wide, max_bad: 2}", "--set: data.train.max_bad: should be at most 1, not 2"),
    ("data.train={source: a.csv, layout: wide, languages: []}", "--set: data.train.languages: none is left: name those of data.languages that the source has, or null for all"),
    ("data.train={source: 'https://me:secret@host/a.csv', layout: wide}", "--set: data.train: https://host has a user or a password before it, which would be written down: leave them to the environment, for example AWS_ACCESS_KEY_ID, or to ~/.netrc for HTTP"),
    ("data.train={source: 's3://me:secret@bucket/a.csv'}", "--set: data.train: s3://bucket has a user or a password before it, which would be written down: leave them to the environment, for example AWS_ACCESS_KEY_ID, or to ~/.netrc for HTTP"),
    ("data.train={source: 'https://host/a.csv?token=secret', layout: wide}", "--set: data.train: https://host/a.csv has more after it, a query, which may hold a password and would be written down: name a file without one"),
    ("data.train={source: a.csv, layout: wide, share_seed: -1}", "--set: data.train.share_seed: should be at least 0, not -1"),
    ("data.train={source: ./a.csv/b, revision: main, layout: wide}", "--set: data.train.source: './a.csv/b' with a revision, main, should be a hub id such as owner/name"),
    ("data.train={source: a.csv, layout: per_language}", "--set: data.train.id: is required"),
    ("data.train={source: a.csv, layout: per_language, id: x}", "--set: data.train: a file, a configuration or a split a language: write {language} in source, config or split, for example split: '{language}'"),
    ("data.vqa={source: a.csv, layout: cvqa, prompt: '{question}'}", "--set: data.vqa.prompt: '{question}' should contain {answer}, may contain {question}, and no other braces"),
    ("data.vqa={source: a.csv, layout: cvqa, prompt: '{answer.x}'}", "--set: data.vqa.prompt: '{answer.x}' should contain {answer}, may contain {question}, and no other braces"),
    ("data.vqa={source: a.csv, layout: cvqa, translation: {langage: en}}", "--set: unknown key data.vqa.translation.langage: did you mean data.vqa.translation.language?"),
    ("data.vqa={source: a.csv, layout: cvqa, translation: {language: xx}}", "--set: data.vqa.translation.language: 'xx' is not among its languages, en es ja ko pt it fr de fa id zh ru tr ar"),
    ("data.pictures_gb=0", "--set: data.pictures_gb: should be more than 0, not 0"),
    (("data.train={source: rows.csv, layout: wide, share: [0, 0.8]}", "data.retrieval={source: rows.csv, layout: wide, share: [0.7, 0.9]}"), "--set: data.train: it and data.retrieval use the same items, so that scores mean nothing: train, retrieval, vqa and test must use different splits, or shares of one (with one share_seed) that do not overlap, for example share: [0, 0.9] and share: [0.9, 1]"),
]  # fmt: skip


def settings(case: str | tuple[str, ...]) -> tuple[str, ...]:
    return (case,) if isinstance(case, str) else case


@pytest.mark.parametrize(
    ("case", "said"), [*VALUES, *DATA], ids=[" ".join(settings(case)) for case, _ in [*VALUES, *DATA]]
)
def test_a_mistake_in_a_key_or_value(refused: Refused, case: str | tuple[str, ...], said: str) -> None:
    line = refused("study.run", *(word for setting in settings(case) for word in ("--set", setting)))
    assert as_said(line, said), line
    assert "secret" not in line


def test_a_width_of_images_that_siglip2_cannot_have(refused: Refused) -> None:
    for setting, said in (
        (
            "student.image.width=128",
            "student.image.width: 128 is not teacher.model.embed_dim, 192: siglip2 does not ...",
        ),
        ("student.image.width=0.5", "student.image.width: 0.5, that is 128, is not teacher.model.embed_dim, 192: ..."),
        ("teacher.model.embed_dim=256", "teacher.model.image.width: 192 is not teacher.model.embed_dim, 256: ..."),
    ):
        assert as_said(refused("study.run", "emoji_siglip2", "--set", setting), f"...: {said}")
