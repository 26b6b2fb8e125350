//! Configuration files: resolved, checked, and what a run makes of them first.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mdetr_train::settings::Settings;

fuzz_target!(|text: &str| {
    let mut settings = Settings::default();
    if settings.add_json(text, "fuzzed.json").is_err() {
        return;
    }
    let Ok(config) = settings.resolve() else { return };
    if config.check().is_ok() && config.data.transforms().check().is_ok() {
        let schedule = config.schedule(1_000_000 / config.images_per_step());
        for step in [0, 1, 99_999] {
            let _ = schedule.at(step);
        }
    }
});
