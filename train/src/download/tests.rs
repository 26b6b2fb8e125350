//! Downloads from a server that behaves as it is told.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

use tempfile::TempDir;

use super::*;

const TAG: &str = "\"first\"";
const PAUSE: Duration = Duration::from_millis(1);

/// What the server does with a connection, of a file of `content`.
#[derive(Clone, Copy)]
enum Answer {
    /// All that was asked for.
    Ok,
    /// The connection ends after so many bytes of the body.
    CutAfter(usize),
    /// The whole file, whatever was asked for.
    IgnoreRange,
    /// As `Ok`, of another version of the file.
    Changed,
    /// A part that does not follow on what is there.
    WrongPart,
    /// Without a length or a version, cut by nothing but the end.
    Chunked,
    Status(&'static str),
}

fn content() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect()
}

/// Serves `answers`, a connection each, and then no more. Returns the address and the ranges that were asked for.
fn serve(answers: Vec<Answer>) -> (String, Receiver<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/models/net.pth", listener.local_addr().unwrap());
    let (sender, ranges) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(&stream).lines().map(|line| line.unwrap().to_lowercase());
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let field = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).map(str::to_string);
            let range = field("range: bytes=").map(|range| range.trim_end_matches('-').to_string());
            let tag = if matches!(answer, Answer::Changed) { "\"second\"" } else { TAG };
            let begin = match (answer, &range) {
                (Answer::IgnoreRange | Answer::Chunked, _) | (_, None) => None,
                _ => {
                    range.as_ref().filter(|_| field("if-range: ").as_deref() == Some(tag)).map(|r| r.parse().unwrap())
                }
            };
            sender.send(range).unwrap();
            // A client that has seen enough hangs up.
            let _ = stream.write_all(&response(answer, tag, begin));
        }
    });
    (address, ranges)
}

fn response(answer: Answer, tag: &str, begin: Option<usize>) -> Vec<u8> {
    let all = content();
    let body = &all[begin.unwrap_or(0)..];
    let (sent, shift) = match answer {
        Answer::Status(status) => return format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        Answer::Chunked => {
            let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", all.len());
            return [head.as_bytes(), &all, b"\r\n0\r\n\r\n"].concat();
        }
        Answer::CutAfter(n) => (n, 0),
        Answer::WrongPart => (body.len(), 1),
        _ => (body.len(), 0),
    };
    let status = match begin {
        Some(begin) => {
            let (first, last) = (begin + shift, all.len() - 1);
            format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/{}", all.len())
        }
        None => "200 OK".into(),
    };
    let head =
        format!("HTTP/1.1 {status}\r\nETag: {tag}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), &body[..sent]].concat()
}

/// Downloads from a server with these answers: the file or the error, and the ranges that were asked for.
fn run(dir: &TempDir, answers: &[Answer]) -> (Result<Vec<u8>, String>, Vec<Option<String>>) {
    let (address, ranges) = serve(answers.to_vec());
    let target = target(dir);
    let result = download(&address, &target, PAUSE).map_err(|e| format!("{e:#}"));
    (result.map(|()| std::fs::read(&target).unwrap()), ranges.try_iter().collect())
}

fn target(dir: &TempDir) -> PathBuf {
    dir.path().join("host/net.pth")
}

fn files(dir: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path().join("host")).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_comes_whole_whatever_happens_on_the_way() {
    use Answer::{Changed, Chunked, CutAfter, IgnoreRange, Ok, Status, WrongPart};
    let cases: [(&[Answer], &[&str]); 8] = [
        (&[Ok], &[""]),
        (&[Chunked], &[""]),
        (&[CutAfter(100_000), CutAfter(50_000), Ok], &["", "100000", "150000"]),
        (&[CutAfter(100_000), IgnoreRange], &["", "100000"]),
        (&[CutAfter(100_000), Changed], &["", "100000"]),
        (&[CutAfter(100_000), WrongPart, Ok], &["", "100000", ""]),
        (&[CutAfter(100_000), Status("416 Range Not Satisfiable"), Ok], &["", "100000", ""]),
        (
            &[Status("503 Service Unavailable"), CutAfter(10), Status("503 Service Unavailable"), Ok],
            &["", "", "10", "10"],
        ),
    ];
    for (i, (answers, ranges)) in cases.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let (result, asked) = run(&dir, answers);
        assert!(result.unwrap_or_else(|e| panic!("case {i}: {e}")) == content(), "case {i}");
        let asked: Vec<String> = asked.into_iter().map(Option::unwrap_or_default).collect();
        assert_eq!(asked, ranges, "case {i}");
        assert_eq!(files(&dir), ["net.pth"], "case {i}");
    }
}

#[test]
fn a_cut_download_goes_on_in_another_process_and_a_whole_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (result, _) = run(&dir, &[Answer::CutAfter(200_000), Answer::Status("404 Not Found")]);
    assert!(result.unwrap_err().contains("404 Not Found"));
    assert_eq!(files(&dir), ["net.pth.part", "net.pth.part.version"]);
    let (result, asked) = run(&dir, &[Answer::Ok]);
    assert!(result.unwrap() == content());
    assert_eq!(asked, [Some("200000".to_string())]);
    let (result, asked) = run(&dir, &[]);
    assert!(result.unwrap() == content() && asked.is_empty());
}

#[test]
fn what_cannot_be_had_is_an_error() {
    let short = Answer::CutAfter(0);
    for (answers, expected) in [
        (vec![Answer::Status("404 Not Found")], "the server answers 404 Not Found"),
        (vec![Answer::CutAfter(7), short, short, short], "the connection ended after 7 of 300000 bytes"),
        (vec![Answer::Status("500 Internal Server Error"); 3], "500 Internal Server Error"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let error = run(&dir, &answers).0.unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!target(&dir).exists());
    }
}

#[test]
fn files_are_kept_below_host_and_path() {
    let keep =
        |address: &str| cached(Path::new("/c"), address).map(|p| p.display().to_string()).map_err(|e| e.to_string());
    for (address, expected) in [
        ("https://zenodo.org/record/4721981/files/a.pth?download=1", "/c/zenodo.org/record/4721981/files/a.pth"),
        ("https://h.org/a.pth?rev=2/3&download=1#top", "/c/h.org/a.pth?rev=2_3"),
        ("http://127.0.0.1:80/a.json", "/c/127.0.0.1:80/a.json"),
    ] {
        assert_eq!(keep(address).unwrap(), expected);
    }
    for (address, expected) in [
        ("http://h.org/a.pth", "only https://"),
        ("http://127.0.0.1.h.org/a.pth", "only https://"),
        ("https://h.org/../../a.pth", "not the address of a file"),
        ("https://h.org/files/", "not the address of a file"),
        ("https://h.org", "not the address of a file"),
    ] {
        let error = keep(address).unwrap_err();
        assert!(error.contains(expected) && error.contains(address), "{error}");
    }
    assert_eq!(local(Path::new("dir/https:/x")).unwrap(), Path::new("dir/https:/x"));
}
