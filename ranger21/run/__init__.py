"""One run: builds every part from the configuration, trains with the engine, and saves and reports.

`config.compose.parse` makes a typed `Config`, which `experiment.run` receives. `build.build_parts` reads it part by
part: `config.data` opens the data, `plan.make_plan` and `optimizers.build_schedule` turn durations into steps,
`config.model` and `config.optimizer` are built in `build.build_state`, and `config.logger` opens its tracker in
`reports.Reports`. The engine sees none of it. `ranger21.engine` describes the walk of a step and of a batch.
"""
