//! Files by their `https://` address: downloaded once, into a cache.
//!
//! A download lies beside its final name until it is complete, so that one that was cut goes on where it stopped, also in
//! another process. `If-Range` (RFC 9110, 13.1.5) keeps parts of two versions of a file apart.

mod part;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use part::{Failure, Part};
use ureq::Agent;

/// Attempts in a row that bring nothing.
const ATTEMPTS: u32 = 3;

/// Before the second of them.
const PAUSE: Duration = Duration::from_secs(2);

/// A server that is silent for so long is taken for gone.
const SILENCE: Duration = Duration::from_secs(60);

/// The file at `path`. If that is an `https://` address, its copy in the cache folder (`$MDETR_CACHE`, or `mdetr` in the
/// user's cache folder), downloaded unless it is there.
pub fn local(path: &Path) -> Result<PathBuf> {
    let Some(address) = path.to_str().filter(|p| p.starts_with("https://") || p.starts_with("http://")) else {
        return Ok(path.into());
    };
    let folder = mdetr_kernels::cache::folder();
    let folder = folder.with_context(|| format!("there is no folder to keep {address} in: set MDETR_CACHE"))?;
    let file = cached(&folder, address)?;
    if !file.is_file() {
        download(address, &file, PAUSE)
            .with_context(|| format!("cannot download {address}; by hand, put the file at {}", file.display()))?;
    }
    Ok(file)
}

/// Where the cache keeps a file: below host and path.
pub fn cached(folder: &Path, address: &str) -> Result<PathBuf> {
    let address = address.split('#').next().unwrap_or_default();
    let (scheme, place) = address.split_once("://").unwrap_or_default();
    let (path, query) = place.split_once('?').unwrap_or((place, ""));
    let mut parts: Vec<String> = path.split('/').map(str::to_string).collect();
    ensure!(scheme == "https" || is_loopback(address), "{address}: only https:// addresses are read");
    let is_plain = |part: &String| !part.is_empty() && part != "." && part != "..";
    ensure!(parts.len() > 1 && parts.iter().all(is_plain), "{address} is not the address of a file");
    let query: Vec<&str> = query.split('&').filter(|q| !q.is_empty() && *q != "download=1").collect();
    if let (Some(name), false) = (parts.last_mut(), query.is_empty()) {
        *name = format!("{name}?{}", query.join("&").replace('/', "_"));
    }
    Ok(parts.iter().fold(folder.to_path_buf(), |path, part| path.join(part)))
}

fn is_loopback(address: &str) -> bool {
    let host = address.split_once("://").map_or("", |(_, place)| place).split(['/', ':']).next();
    host.is_some_and(|host| host == "localhost" || host == "127.0.0.1")
}

/// Downloads `address` to `target`. A process that wants the same file at the same time waits for it. `pause` grows with
/// every attempt that brings nothing.
pub fn download(address: &str, target: &Path, pause: Duration) -> Result<()> {
    let mut part = Part::open(target)?;
    if target.exists() {
        return part.discard();
    }
    let agent = agent(address);
    let mut failures = 0;
    loop {
        let before = part.length()?;
        match part.transfer(&agent, address) {
            Ok(()) => return part.complete(target),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Cut(error)) => {
                failures = if part.length()? > before { 0 } else { failures + 1 };
                if failures == ATTEMPTS {
                    return Err(error);
                }
                eprintln!("{address}: {error:#}; trying again");
                std::thread::sleep(pause * failures);
            }
        }
    }
}

fn agent(address: &str) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .https_only(!is_loopback(address))
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE));
    let config = if is_loopback(address) { config.proxy(None) } else { config };
    config.build().into()
}

#[cfg(test)]
mod tests;
