//! A file on its way: what has come of it, and asking for the rest.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow};
use ureq::http::{Response, header};
use ureq::{Agent, Body};

use crate::progress::Progress;

/// Why a transfer ended.
pub enum Failure {
    /// Another attempt may go on.
    Cut(Error),
    /// Another attempt would end so too.
    Final(Error),
}

/// What has come of a file.
pub struct Part {
    path: PathBuf,
    file: File,
    /// Holds the version of the file that the part is of, as its server names it.
    version: PathBuf,
}

impl Part {
    pub fn open(target: &Path) -> Result<Self> {
        let beside = |suffix: &str| {
            let mut name = target.file_name().unwrap_or_default().to_os_string();
            name.push(suffix);
            target.with_file_name(name)
        };
        let (path, version) = (beside(".part"), beside(".part.version"));
        let open = || {
            std::fs::create_dir_all(target.parent().unwrap_or(target))?;
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            file.lock()?;
            Ok::<_, std::io::Error>(file)
        };
        let file = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Part { path, file, version })
    }

    pub fn length(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub fn discard(self) -> Result<()> {
        for path in [&self.path, &self.version].into_iter().filter(|path| path.exists()) {
            std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    pub fn complete(self, target: &Path) -> Result<()> {
        let finish = || {
            self.file.sync_all()?;
            std::fs::rename(&self.path, target)
        };
        finish().with_context(|| format!("cannot write {}", target.display()))?;
        self.discard()
    }

    /// Asks for what is missing and appends it.
    pub fn transfer(&mut self, agent: &Agent, address: &str) -> Result<(), Failure> {
        let version = std::fs::read_to_string(&self.version).ok();
        let have = if version.is_some() { self.length().map_err(Failure::Final)? } else { 0 };
        let mut request = agent.get(address);
        if let (Some(version), true) = (&version, have > 0) {
            request = request.header(header::RANGE, format!("bytes={have}-")).header(header::IF_RANGE, version);
        }
        let response = request.call().map_err(|e| Failure::Cut(e.into()))?;
        let status = response.status();
        let (begin, total) = match status.as_u16() {
            200 => (0, content_length(&response)),
            206 if have > 0 && is_same(&response, version.as_deref()) => match content_range(&response) {
                Some((begin, total)) if begin == have => (begin, total),
                _ => return Err(self.restart("the server sent another part than was asked for")),
            },
            206 | 416 => return Err(self.restart("the file has changed")),
            500.. | 408 | 429 => return Err(Failure::Cut(anyhow!("the server answers {status}"))),
            _ => return Err(Failure::Final(anyhow!("the server answers {status}"))),
        };
        if begin == 0 {
            self.begin(&response).map_err(Failure::Final)?;
        }
        self.append(response, address, begin, total)
    }

    /// The next attempt starts anew.
    fn restart(&self, why: &'static str) -> Failure {
        match std::fs::remove_file(&self.version) {
            Ok(()) => Failure::Cut(anyhow!(why)),
            Err(error) => Failure::Final(Error::from(error).context(why)),
        }
    }

    /// Empties the file and notes its version.
    fn begin(&mut self, response: &Response<Body>) -> Result<()> {
        let note = || {
            self.file.set_len(0)?;
            match version(response) {
                Some(version) => std::fs::write(&self.version, version),
                None if self.version.exists() => std::fs::remove_file(&self.version),
                None => Ok(()),
            }
        };
        note().with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn append(
        &mut self,
        response: Response<Body>,
        address: &str,
        begin: u64,
        total: Option<u64>,
    ) -> Result<(), Failure> {
        let cannot_write =
            |error| Failure::Final(Error::from(error).context(format!("cannot write {}", self.path.display())));
        let name = address.rsplit('/').next().unwrap_or(address);
        let megabytes = |bytes: u64| (bytes / 1_000_000) as usize;
        let mut progress = total
            .map(|total| Progress::new(&format!("downloading {name} (MB)"), megabytes(total.saturating_sub(begin))));
        let mut body = response.into_body().into_reader();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(begin)).map_err(cannot_write)?;
        let (mut end, mut buffer) = (begin, vec![0; 1 << 16]);
        let cut = loop {
            match body.read(&mut buffer) {
                Ok(0) => break None,
                Ok(n) => {
                    file.write_all(&buffer[..n]).map_err(cannot_write)?;
                    end += n as u64;
                    progress.iter_mut().for_each(|p| p.at(megabytes(end - begin), &[]));
                }
                Err(error) => break Some(Error::from(error)),
            }
        };
        progress.into_iter().for_each(Progress::finish);
        match (cut, total) {
            (None, total) if total.is_none_or(|total| end == total) => Ok(()),
            (cut, Some(total)) => {
                let what = format!("the connection ended after {end} of {total} bytes");
                Err(Failure::Cut(cut.map_or_else(|| anyhow!(what.clone()), |cut| cut.context(what.clone()))))
            }
            (cut, None) => {
                Err(Failure::Cut(cut.unwrap_or_else(|| anyhow!("the connection ended after {end} bytes"))))
            }
        }
    }
}

fn text(response: &Response<Body>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// What `If-Range` may name: a strong entity tag, or the date of the last change.
fn version(response: &Response<Body>) -> Option<&str> {
    let tag = text(response, header::ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| text(response, header::LAST_MODIFIED))
}

/// Whether a partial answer is of this version; servers may leave that out.
fn is_same(response: &Response<Body>, expected: Option<&str>) -> bool {
    version(response).is_none_or(|version| Some(version) == expected)
}

fn content_length(response: &Response<Body>) -> Option<u64> {
    text(response, header::CONTENT_LENGTH)?.parse().ok()
}

/// Where a partial answer begins, and the length of the whole: `bytes 10-99/100`.
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let (range, total) = text(response, header::CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}
