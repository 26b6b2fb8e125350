//! A whole run: data, warm-up, training, evaluation, and what it leaves in its folder.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use mdetr_autograd::profile::Profile;
use mdetr_kernels::{Device, Precision};
use mdetr_model::criterion::Criterion;
use mdetr_model::{Mdetr, TextConfig};
use serde_json::{Map, Value, json};

use crate::checkpoint;
use crate::collate::Collator;
use crate::config::{PretrainConfig, RunConfig};
use crate::data::concat::Concat;
use crate::data::official::{OfficialConfig, Source};
use crate::data::{Dataset, ImageFolders, Split, Tokenizer};
use crate::emoji::{self, EmojiConfig};
use crate::engine::{EpochStats, Trainer};
use crate::evaluate::{Captions, EvalOptions, Metrics, evaluate};
use crate::initial_weights::initial_weights;
use crate::loader::{Loader, shuffled};
use crate::optimizer::Optimizer;
use crate::pictures;
use crate::progress::Progress;
use crate::schedule::Rates;

/// Scenes on the sheet of held-out examples.
const SHEET_SCENES: usize = 24;

/// Makes an emoji dataset, unless the same one is there.
pub fn make_emoji(out: &Path, config: &EmojiConfig) -> Result<emoji::Summary> {
    let total = config.train + config.pretrain + config.val + config.val_unseen;
    let progress = std::sync::Mutex::new(Progress::new("composing scenes", total));
    let summary = emoji::generate(out, config, &|done, _| {
        if let Ok(mut progress) = progress.lock() {
            progress.at(done, &[]);
        }
    })?;
    if let Ok(progress) = progress.into_inner() {
        progress.finish();
    }
    Ok(summary)
}

/// Trains as `config` says, on `device`, and returns the last metrics. With `profile`, prints the time of every op after each epoch.
pub fn train(config: &RunConfig, device: Device, profile: bool) -> Result<Value> {
    config.check()?;
    let t = &config.training;
    for (key, is_set) in [("resume", t.resume.is_some()), ("start_epoch", t.start_epoch > 0)] {
        ensure!(!is_set, "{key}: training from a checkpoint is not built yet: leave it out");
    }
    let mut config = config.clone();
    if let (Some(emoji), Some(dir)) = (&config.data.emoji, &config.data.emoji_dir)
        && !emoji::is_complete(dir, emoji)
    {
        make_emoji(dir, emoji)?;
    }
    let tokenizer = Tokenizer::roberta_base();
    let train_set = training_set(&config, &tokenizer)?;
    ensure!(
        train_set.len() >= config.training.batch_size,
        "the training data has {} images, fewer than batch_size {}",
        train_set.len(),
        config.training.batch_size
    );
    let val_sets = validation_sets(&config, &tokenizer)?;
    let warmup_set = config.training.pretrain.as_ref().map(|pretrain| {
        let source = own_source(&config, &pretrain.easy_ann)?;
        open(&config, source, Split::Train, &tokenizer)
    });
    let warmup_set = warmup_set.transpose()?;
    fill_vocabulary(&mut config, train_set.parts().iter().chain(&warmup_set), &tokenizer);

    let dir = config.run_dir();
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let write = |name: &str, text: String| {
        std::fs::write(dir.join(name), text).with_context(|| format!("cannot write {name} in {}", dir.display()))
    };
    write("config.json", serde_json::to_string_pretty(&config)?)?;
    write("log.txt", String::new())?;

    let mut model = Mdetr::new(&config.model, config.training.seed)?;
    initial_weights(&config, &mut model)?;
    let all_sets = train_set.parts().iter().chain(&warmup_set).chain(val_sets.iter().map(|(_, set)| set));
    check_captions(&model, all_sets, &tokenizer)?;
    let parameters =
        model.parameters.iter().filter(|(_, p)| p.requires_grad).map(|(_, p)| p.value.len()).sum::<usize>();
    eprintln!("{parameters} trainable parameters, {} training images, run folder {}", train_set.len(), dir.display());
    model.parameters.set_precision(config.training.precision);
    model.parameters.to_device(device);
    if let Some(cuda) = device.cuda() {
        cuda.allow_tf32(config.training.precision == Precision::TF32);
    }
    let optimizer = new_optimizer(&config, &model);
    let mut trainer = Trainer {
        model: &mut model,
        optimizer,
        precision: config.training.precision,
        seed: config.training.seed,
        draws: 0,
        profile: profile.then(Profile::default),
    };
    let start = std::time::Instant::now();
    if let (Some(pretrain), Some(easy)) = (&config.training.pretrain, &warmup_set) {
        let easy = Arc::new(Concat::new(vec![easy.clone()]));
        warm_up(&mut trainer, &config, pretrain, [&easy, &train_set], &tokenizer)?;
        trainer.optimizer = new_optimizer(&config, trainer.model);
    }
    let data = Datasets { train: &train_set, val: &val_sets, tokenizer: &tokenizer };
    let log = train_epochs(&mut trainer, &config, &data, parameters, start)?;
    let averaged = trainer.optimizer.averaged(&trainer.model.parameters);
    if let Some((_, val)) = val_sets.first() {
        let sheet = pictures::scenes(&model, &averaged, val, &tokenizer, SHEET_SCENES)?;
        crate::draw::save_png(&sheet, &dir.join("scenes.png"))?;
    }
    if let Some(cuda) = device.cuda() {
        eprintln!("{}", cuda.usage());
    }
    eprintln!("{:.0} s in all; see {}", start.elapsed().as_secs_f64(), dir.display());
    Ok(log.last().cloned().unwrap_or(Value::Null))
}

/// Evaluates on every validation file of a configuration.
pub fn evaluate_all(config: &RunConfig, model: &Mdetr, options: &EvalOptions) -> Result<Vec<Metrics>> {
    let (tokenizer, sets) = open_validation(config)?;
    ensure!(
        !sets.is_empty(),
        "there is nothing to evaluate on: give --val-ann FILE and --img-path DIR, or --dataset-config FILE for \
         published datasets"
    );
    check_captions(model, sets.iter().map(|(_, set)| set), &tokenizer)?;
    sets.iter().map(|(name, set)| evaluate(model, &model.parameters, name, set, &tokenizer, options)).collect()
}

/// The tokenizer and every validation set of a configuration, by name.
pub fn open_validation(config: &RunConfig) -> Result<(Arc<Tokenizer>, Vec<(String, Arc<Dataset>)>)> {
    let tokenizer = Tokenizer::roberta_base();
    let sets = validation_sets(config, &tokenizer)?;
    Ok((tokenizer, sets))
}

struct Datasets<'a> {
    train: &'a Arc<Concat>,
    val: &'a [(String, Arc<Dataset>)],
    tokenizer: &'a Tokenizer,
}

fn new_optimizer(config: &RunConfig, model: &Mdetr) -> Optimizer {
    let t = &config.training;
    Optimizer::new(&model.parameters, t.precision, t.weight_decay, t.clip_max_norm, t.ema.then_some(t.ema_decay))
}

fn open(config: &RunConfig, source: Source, split: Split, tokenizer: &Arc<Tokenizer>) -> Result<Arc<Dataset>> {
    let transforms = config.data.transforms();
    Ok(Arc::new(Dataset::load(&source.annotations, source.folders, split, transforms, tokenizer.clone())?))
}

/// An annotation file of the configuration, with its images.
fn own_source(config: &RunConfig, annotations: &Path) -> Result<Source> {
    let folder = config.data.img_path.clone();
    let folder =
        folder.with_context(|| format!("where are the images of {}? give --img-path DIR", annotations.display()))?;
    let name = annotations.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Source { name, annotations: annotations.into(), folders: ImageFolders::one(folder) })
}

/// What to train on: the configuration's own annotations, or else published datasets.
fn training_set(config: &RunConfig, tokenizer: &Arc<Tokenizer>) -> Result<Arc<Concat>> {
    let sources = match &config.data.train_ann {
        Some(annotations) => vec![own_source(config, annotations)?],
        None if config.official == OfficialConfig::default() => bail!(
            "there is nothing to train on: give --train-ann FILE and --img-path DIR, or --dataset-config FILE for \
             published datasets"
        ),
        None => config.official.sources(Split::Train)?,
    };
    let parts = sources.into_iter().map(|source| open(config, source, Split::Train, tokenizer));
    Ok(Arc::new(Concat::new(parts.collect::<Result<_>>()?)))
}

/// What to evaluate on: the configuration's own annotations; published datasets, if there are none and it trains on none.
fn validation_sets(config: &RunConfig, tokenizer: &Arc<Tokenizer>) -> Result<Vec<(String, Arc<Dataset>)>> {
    let is_own = !config.data.val_ann.is_empty() || config.data.train_ann.is_some();
    let sources = match is_own || config.official == OfficialConfig::default() {
        true => {
            config.data.val_ann.iter().map(|annotations| own_source(config, annotations)).collect::<Result<_>>()?
        }
        false => config.official.sources(Split::Val)?,
    };
    let open = |source: Source| Ok((source.name.clone(), open(config, source, Split::Val, tokenizer)?));
    sources.into_iter().map(open).collect()
}

/// Refuses captions that the text encoder has no positions for.
fn check_captions<'a>(
    model: &Mdetr,
    sets: impl Iterator<Item = &'a Arc<Dataset>>,
    tokenizer: &Tokenizer,
) -> Result<()> {
    let limit = model.network.max_tokens();
    for set in sets {
        for i in 0..set.len() {
            let record = set.record(i).0;
            let tokens = tokenizer.encode(&record.caption).ids.len();
            ensure!(
                tokens <= limit,
                "{}: the caption of image {} has {tokens} tokens, the text encoder reads at most {limit}: shorten it",
                set.path().display(),
                record.id
            );
        }
    }
    Ok(())
}

/// A `words` text encoder without a vocabulary gets the tokens of the training captions.
fn fill_vocabulary<'a>(config: &mut RunConfig, sets: impl Iterator<Item = &'a Arc<Dataset>>, tokenizer: &Tokenizer) {
    let text = config.model.text();
    if config.model.text_encoder_type != "words" || !text.vocabulary.is_empty() {
        return;
    }
    let mut ids = BTreeSet::new();
    for set in sets {
        (0..set.len()).for_each(|i| ids.extend(tokenizer.encode(&set.record(i).0.caption).ids));
    }
    ids.insert(tokenizer.pad_id());
    let vocabulary: Vec<i32> = ids.into_iter().collect();
    config.model.text_config = Some(TextConfig { vocab_size: vocabulary.len() + 1, vocabulary, ..text });
}

/// The image-caption warm-up: easy scenes first, then the training data.
fn warm_up(
    trainer: &mut Trainer,
    config: &RunConfig,
    pretrain: &PretrainConfig,
    sets: [&Arc<Concat>; 2],
    tokenizer: &Tokenizer,
) -> Result<()> {
    let t = &config.training;
    let rates = Rates { base: pretrain.lr, backbone: pretrain.lr, text_encoder: pretrain.lr };
    let collator = Collator::new(&config.model, tokenizer.pad_id());
    let mut progress = Progress::new("warm-up", pretrain.steps);
    let mut mean = 0.0;
    let phases = [pretrain.easy_steps.min(pretrain.steps), pretrain.steps.saturating_sub(pretrain.easy_steps)];
    let mut done = 0;
    for (set, steps) in sets.into_iter().zip(phases) {
        ensure!(set.len() >= pretrain.batch_size, "the warm-up's batch_size is more than its {} images", set.len());
        let epochs = (0..).flat_map(|epoch| shuffled(set.len(), pretrain.batch_size, t.seed, epoch));
        let plan: Vec<_> = epochs.take(steps).collect();
        for batch in Loader::new(set, &collator, plan, t.seed, t.num_workers) {
            let report = trainer.pretrain_step(&batch?, rates).with_context(|| format!("warm-up step {done}"))?;
            done += 1;
            mean += (report.losses[0].1 - mean) * 0.02f64.max(1.0 / done as f64);
            progress.at(done, &[("loss", format!("{mean:.3}"))]);
        }
    }
    progress.finish();
    let skipped = trainer.optimizer.scaling().map(|scaling| format!(", {} of them skipped", scaling.skipped));
    eprintln!("warm-up: {done} steps{}, contrastive loss {mean:.3}", skipped.unwrap_or_default());
    Ok(())
}

/// The epochs; returns what was logged, an object each.
fn train_epochs(
    trainer: &mut Trainer,
    config: &RunConfig,
    data: &Datasets,
    n_parameters: usize,
    start: std::time::Instant,
) -> Result<Vec<Value>> {
    let t = &config.training;
    let dir = config.run_dir();
    let criterion = Criterion::new(&config.criterion);
    let collator = Collator::new(&config.model, data.tokenizer.pad_id());
    let schedule = config.schedule(data.train.len() / t.batch_size);
    let max_steps = t.max_steps.unwrap_or(usize::MAX).min(schedule.total_steps());
    let mut progress = Progress::new("training", max_steps);
    let mut log = Vec::new();
    for epoch in 0..t.epochs {
        let first_step = epoch * schedule.steps_per_epoch;
        if first_step >= max_steps {
            break;
        }
        let plan = shuffled(data.train.len(), t.batch_size, t.seed, epoch);
        let loader = Loader::new(data.train, &collator, plan, t.seed.wrapping_add(epoch as u64), t.num_workers);
        let stats = trainer.train_one_epoch(&criterion, loader, &schedule, first_step, max_steps, &mut progress)?;
        if let Some(profile) = &mut trainer.profile {
            eprintln!("{}", std::mem::take(profile).table());
        }
        let is_last = epoch + 1 == t.epochs || first_step + schedule.steps_per_epoch >= max_steps;
        let metrics = match is_last || (epoch + 1) % t.eval_skip.max(1) == 0 {
            true => evaluate_epoch(trainer, config, data)?,
            false => Vec::new(),
        };
        let lr = schedule.at(first_step).base;
        let seconds = start.elapsed().as_secs_f64();
        let loss_scale = trainer.optimizer.scaling().map(|scaling| scaling.scale);
        let entry = log_entry(epoch, &stats, &metrics, lr, loss_scale, n_parameters, seconds);
        report(epoch, &stats, &metrics);
        append(&dir.join("log.txt"), &entry)?;
        log.push(entry);
        checkpoint::write(&dir.join("checkpoint"), config, &trainer.model.parameters, trainer.optimizer.ema())?;
        crate::draw::save_png(&pictures::training_curves(&log)?, &dir.join("curves.png"))?;
    }
    progress.finish();
    Ok(log)
}

fn evaluate_epoch(trainer: &Trainer, config: &RunConfig, data: &Datasets) -> Result<Vec<Metrics>> {
    let averaged = trainer.optimizer.averaged(&trainer.model.parameters);
    let options = EvalOptions {
        batch_size: config.training.batch_size,
        workers: config.training.num_workers,
        captions: Captions::Own,
        max_images: None,
    };
    let run = |(name, set): &(String, Arc<Dataset>)| {
        evaluate(trainer.model, &averaged, name, set, data.tokenizer, &options)
    };
    data.val.iter().map(run).collect()
}

/// An object of `log.txt`, under the published keys: `train_*`, `test_<dataset>_*`, `epoch`, `n_parameters`. In f16 also
/// the `skipped_steps` of the epoch, and the `loss_scale` at its end.
fn log_entry(
    epoch: usize,
    stats: &EpochStats,
    metrics: &[Metrics],
    lr: f64,
    loss_scale: Option<f64>,
    n_parameters: usize,
    seconds: f64,
) -> Value {
    let mut entry = Map::new();
    entry.insert("train_lr".into(), lr.into());
    for (name, value) in stats.means() {
        entry.insert(format!("train_{name}"), value.into());
    }
    if let Some(scale) = loss_scale {
        entry.insert("skipped_steps".into(), stats.skipped.into());
        entry.insert("loss_scale".into(), scale.into());
    }
    for m in metrics {
        if let Ok(Value::Object(values)) = serde_json::to_value(m) {
            let values = values.into_iter().filter(|(key, _)| key != "dataset");
            entry.extend(values.map(|(key, v)| (format!("test_{}_{key}", m.dataset), v)));
        }
    }
    entry.extend(
        [("epoch", json!(epoch)), ("n_parameters", json!(n_parameters)), ("seconds", json!(seconds))]
            .map(|(k, v)| (k.to_string(), v)),
    );
    Value::Object(entry)
}

fn report(epoch: usize, stats: &EpochStats, metrics: &[Metrics]) {
    let loss = stats.means().next().map_or(f64::NAN, |(_, v)| v);
    let sets = metrics.iter().map(|m| {
        format!(
            "  {}: recall@1 {:.4}, recall@5 {:.4}, AP {:.3}, AP50 {:.3}",
            m.dataset, m.recall_at_1, m.recall_at_5, m.ap, m.ap50
        )
    });
    let skipped = if stats.skipped > 0 { format!(", {} steps skipped", stats.skipped) } else { String::new() };
    eprintln!("epoch {epoch}: loss {loss:.4}{skipped}{}", sets.collect::<String>());
}

fn append(path: &Path, entry: &Value) -> Result<()> {
    use std::io::Write;
    let write = || writeln!(std::fs::OpenOptions::new().append(true).create(true).open(path)?, "{entry}");
    write().with_context(|| format!("cannot write {}", path.display()))
}
