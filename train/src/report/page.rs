//! The page: HTML that needs no other file.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::run::{METRICS, Row, Run};

const STYLE: &str = "
body { font: 16px/1.5 system-ui, sans-serif; color: #1e2228; max-width: 1360px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.2rem; margin-top: 2.5rem }
table { border-collapse: collapse } th, td { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top }
th { font-weight: 600; border-bottom: 1px solid #c8ccd2 } td.number, th.number { text-align: right }
td { font-variant-numeric: tabular-nums } code, td.value { font-family: ui-monospace, monospace; font-size: .9rem }
td.value { overflow-wrap: anywhere } img { max-width: 100%; border: 1px solid #e2e4e8 } .note { color: #5a6068 }";

/// A picture of the page.
pub struct Figure {
    /// Its heading.
    pub title: String,
    /// What is to be seen; may be empty.
    pub note: String,
    /// The picture.
    pub png: Vec<u8>,
}

/// Everything that the page shows.
pub struct Page<'a> {
    /// The run.
    pub run: &'a Run,
    /// Its pictures.
    pub figures: &'a [Figure],
    /// What the page lacks, and why.
    pub notes: &'a [String],
}

impl Page<'_> {
    /// The whole document.
    pub fn html(&self) -> String {
        let title = self.run.config["run_name"].as_str().unwrap_or(&self.run.folder);
        let document = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { (title) }
                    p.note { (self.summary()) }
                    (self.metrics())
                    @for figure in self.figures { (figure.html()) }
                    @for note in self.notes { p.note { (note) } }
                    (self.settings())
                    (self.environment())
                }
            }
        };
        document.into_string()
    }

    /// How far the run came.
    fn summary(&self) -> String {
        let epochs = self.run.log.len();
        let last = self.run.log.last().unwrap_or(&Value::Null);
        let planned = self.run.config["epochs"].as_u64().map(|n| format!(" of {n}")).unwrap_or_default();
        let number = |key: &str, text: &str, digits: usize| {
            last[key].as_f64().map(|v| format!("{text}{v:.digits$}")).unwrap_or_default()
        };
        format!(
            "{}: {epochs}{planned} epochs{}{}{}",
            self.run.folder,
            number("seconds", ", seconds: ", 0),
            number("train_loss", ", loss of the last: ", 4),
            number("n_parameters", ", trainable parameters: ", 0),
        )
    }

    fn metrics(&self) -> Markup {
        let rows = self.run.metrics();
        let cells = |values: &[Option<f64>]| {
            html! { @for value in values { td.number { (value.map_or("–".into(), |v| format!("{v:.4}"))) } } }
        };
        html! {
            h2 { "Metrics" }
            @if rows.is_empty() { p.note { "No epoch was evaluated." } }
            @else {
                table {
                    tr { th { "dataset" } th { "epoch" } @for name in METRICS { th.number { (name) } } }
                    @for Row { dataset, last, best } in &rows {
                        tr { td { (dataset) } td { "last" } (cells(last)) }
                        tr { td {} td { "best" } (cells(best)) }
                    }
                }
            }
        }
    }

    fn settings(&self) -> Markup {
        let settings = self.run.settings();
        let table = |changed: bool| {
            html! {
                table {
                    @for (key, value, _) in settings.iter().filter(|(.., differs)| *differs == changed) {
                        tr { td { code { (key) } } td.value { (value) } }
                    }
                }
            }
        };
        html! {
            h2 { "Settings that differ from the defaults" }
            (table(true))
            details { summary { "The others" } (table(false)) }
        }
    }

    fn environment(&self) -> Markup {
        html! {
            h2 { "Environment" }
            @if self.run.environments.is_empty() { p.note { "Not recorded." } }
            @for start in &self.run.environments {
                table {
                    tr { td { "started" } td.value { (start.started) } }
                    tr { td { "command" } td.value { (start.command.join(" ")) } }
                    tr { td { "in" } td.value { (start.folder) } }
                    tr { td { "version" } td.value { "mdetr " (start.version) } }
                    tr { td { "computed on" } td.value { (start.device) } }
                    tr { td { "processor" } td.value { (start.processor) ", " (start.threads) " threads, " (start.platform) } }
                    @if !start.simd.is_empty() { tr { td { "vector instructions" } td.value { (start.simd) } } }
                }
            }
        }
    }
}

impl Figure {
    fn html(&self) -> Markup {
        let data = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(&self.png));
        html! {
            h2 { (self.title) }
            @if !self.note.is_empty() { p.note { (self.note) } }
            img src=(data) alt=(self.title);
        }
    }
}
