//! A small HTTP server that speaks the part of the hub's API that this program and `huggingface_hub` use, and can
//! misbehave.
//!
//! It listens on two ports, which are two hosts for whoever keeps a token to one of them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// The commit that every repository is at.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server holds and how it misbehaves.
#[derive(Default)]
pub(crate) struct State {
    /// Repository id -> file name -> content.
    pub(crate) repos: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// `METHOD path` of every request so far.
    pub(crate) requests: Vec<String>,
    /// Port, path and token of every request so far.
    pub(crate) seen: Vec<(u16, String, Option<String>)>,
    /// What is wrong with it.
    pub(crate) mischief: Mischief,
    /// Bytes of bodies that were taken off its hands.
    pub(crate) sent: u64,
    /// Values of `Range` sent for file bodies.
    pub(crate) ranges: Vec<String>,
    /// Answer 401 to requests without this token.
    pub(crate) token: Option<String>,
    /// The branch that exists, beside the commit itself.
    pub(crate) branch: String,
    /// So many bodies of large files stop half-way.
    pub(crate) truncate: usize,
    /// Announce `Accept-Ranges`, but send the whole file every time.
    pub(crate) ignore_ranges: bool,
    /// A repository's old and new id: requests for the old one are sent to the new one.
    pub(crate) renamed: Option<(String, String)>,
    /// Send other bytes than the etag promises.
    pub(crate) corrupt: bool,
}

/// How an answer is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mischief {
    /// It is not.
    #[default]
    None,
    /// `config.json` is a redirect to the other port, with what the hub knows of the file.
    OtherHost,
    /// The API is a redirect to the other port.
    ApiElsewhere,
    /// `config.json` is a redirect to nowhere.
    NoLocation,
    /// `config.json` is a redirect to itself.
    Loop,
    /// `config.json` is a redirect to this.
    Location(&'static str),
    /// Bodies of large files do not end.
    Endless,
    /// Bodies of large files are a hundred bytes too short, and say so.
    Short,
    /// Bodies of large files are a hundred bytes too long.
    Long,
    /// Large files are announced as larger than any disk.
    Huge,
    /// Nothing is said, for longer than anybody waits.
    Silent,
    /// Bodies of large files stop in the middle, with the connection open.
    Stalled,
    /// Bodies of large files come byte by byte.
    Dripping,
    /// `config.json` has no etag.
    NoEtag,
    /// `config.json` has an etag that leads out of the folder.
    EtagOutside,
    /// The API names a commit that leads out of the folder.
    CommitOutside,
    /// The API's answer is 64 MB long.
    BigAnswer,
}

/// Longer than a test's patience.
const LONG: Duration = Duration::from_millis(2500);

/// A running server; it ends with the process.
pub(crate) struct Server {
    pub(crate) url: String,
    /// Its other address.
    pub(crate) other: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn start(repos: &[(&str, BTreeMap<String, Vec<u8>>)]) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = [listen(), listen()];
        let [url, other] = listeners.each_ref().map(|l| format!("http://{}", l.local_addr().unwrap()));
        let repos = repos.iter().map(|(id, files)| ((*id).to_owned(), files.clone())).collect();
        let state = Arc::new(Mutex::new(State { repos, branch: "main".into(), ..State::default() }));
        let server = Self { url, other, state };
        for listener in listeners {
            let (state, other) = (server.state.clone(), server.other.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let (state, other) = (state.clone(), other.clone());
                    // A client that hangs up is part of some tests.
                    std::thread::spawn(move || answer(stream.unwrap(), &other, &state));
                }
            });
        }
        server
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn requests(&self) -> usize {
        self.state().requests.len()
    }
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((key, value)) = line.split_once(": ") else { break };
        headers.insert(key.to_lowercase(), value.to_owned());
    }
    let path = target.split('?').next().unwrap_or_default().replace("%2F", "/");
    Ok(Request { method, path, headers })
}

fn answer(mut stream: TcpStream, other: &str, shared: &Mutex<State>) -> std::io::Result<()> {
    let request = read_request(&stream)?;
    if shared.lock().unwrap().mischief == Mischief::Silent {
        std::thread::sleep(LONG);
        return Ok(());
    }
    let mut state = shared.lock().unwrap();
    let state = &mut *state;
    state.requests.push(format!("{} {}", request.method, request.path));
    let port = stream.local_addr()?.port();
    let token = request.headers.get("authorization").cloned();
    state.seen.push((port, request.path.clone(), token));
    let config = request.path.ends_with("/config.json");
    let elsewhere = other.ends_with(&format!(":{port}"));
    let known = format!("X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"abc\"\r\nX-Linked-Size: ");
    match state.mischief {
        Mischief::ApiElsewhere if request.path.starts_with("/api/") && !elsewhere => {
            return redirect(&mut stream, &format!("{other}{}", request.path), "");
        }
        Mischief::OtherHost if config && !elsewhere => {
            let size = find(state, &request.path[1..], "/resolve/").map_or(0, |(_, file)| file.len());
            let to = request.path.replace("/resolve/", "/-/");
            return redirect(&mut stream, &format!("{other}/cdn{to}"), &format!("{known}{size}\r\n"));
        }
        Mischief::NoLocation if config => {
            return write!(stream, "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
        Mischief::Loop if config => return redirect(&mut stream, &request.path, ""),
        Mischief::Location(to) if config => return redirect(&mut stream, to, ""),
        _ => {}
    }
    let authorised = state
        .token
        .as_ref()
        .is_none_or(|t| request.headers.get("authorization") == Some(&format!("Bearer {t}")));
    if let Some(rest) = request.path.strip_prefix("/cdn/") {
        let Some((_, file)) = find(state, rest, "/-/") else {
            return status(&mut stream, 404, "EntryNotFound");
        };
        return body(&mut stream, &request, &file, "", state);
    }
    if !authorised {
        return status(&mut stream, 401, "GatedRepo");
    }
    if let Some((old, new)) =
        state.renamed.clone().filter(|(old, _)| request.path.contains(&format!("/{old}/")))
    {
        return redirect(&mut stream, &request.path.replacen(&old, &new, 1), "");
    }
    if let Some(rest) = request.path.strip_prefix("/api/models/") {
        if let Some((id, _)) = rest.split_once("/tree/") {
            return tree(&mut stream, id, state);
        }
        let (id, revision) = rest.split_once("/revision/").unwrap_or((rest, "main"));
        return info(&mut stream, id, revision, state);
    }
    let Some((name, file)) = find(state, &request.path[1..], "/resolve/") else {
        return status(&mut stream, 404, "EntryNotFound");
    };
    let hash = sha256_hex(&file);
    if std::path::Path::new(&name).extension().is_none_or(|e| e != "safetensors") {
        let etag = match state.mischief {
            Mischief::NoEtag => String::new(),
            Mischief::EtagOutside => "ETag: \"../../../../evil\"\r\n".to_owned(),
            _ => format!("ETag: \"{}\"\r\n", &hash[..40]),
        };
        return body(&mut stream, &request, &file, &format!("X-Repo-Commit: {COMMIT}\r\n{etag}"), state);
    }
    let location = request.path[1..].replace("/resolve/", "/-/");
    let size = if state.mischief == Mischief::Huge { 1 << 60 } else { file.len() };
    // Another host, as the hub's large files have: clients stop here and read these headers.
    let known = format!("X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{hash}\"\r\nX-Linked-Size: {size}\r\n");
    redirect(&mut stream, &format!("{other}/cdn/{location}"), &known)
}

/// `{id}{separator}{revision}/{file}`
fn find(state: &State, path: &str, separator: &str) -> Option<(String, Vec<u8>)> {
    let (id, rest) = path.split_once(separator)?;
    let (revision, name) = rest.split_once('/')?;
    let known = revision == COMMIT || revision == state.branch;
    let file = state.repos.get(id)?.get(name)?;
    known.then(|| (name.to_owned(), file.clone()))
}

fn info(stream: &mut TcpStream, id: &str, revision: &str, state: &State) -> std::io::Result<()> {
    let Some(files) = state.repos.get(id) else { return status(stream, 404, "RepoNotFound") };
    if revision != COMMIT && revision != state.branch {
        return status(stream, 404, "RevisionNotFound");
    }
    let outside = state.mischief == Mischief::CommitOutside;
    let sha = if outside { "../../../../evil" } else { COMMIT };
    if state.mischief == Mischief::BigAnswer {
        return send_json(stream, &format!("{{\"sha\":\"{COMMIT}\",\"x\":\"{}\"}}", "A".repeat(64 << 20)));
    }
    let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
    let json = serde_json::json!({
        "_id": "1", "id": id, "modelId": id, "sha": sha, "private": false, "disabled": false, "gated": false,
        "downloads": 0, "likes": 0, "tags": [], "siblings": siblings
    })
    .to_string();
    send_json(stream, &json)
}

/// The file list as `huggingface_hub` asks for it.
fn tree(stream: &mut TcpStream, id: &str, state: &State) -> std::io::Result<()> {
    let Some(files) = state.repos.get(id) else { return status(stream, 404, "RepoNotFound") };
    let entry = |(name, file): (&String, &Vec<u8>)| {
        let (hash, size) = (sha256_hex(file), file.len());
        let mut entry = serde_json::json!({"type": "file", "path": name, "size": size, "oid": hash[..40]});
        if name.ends_with("safetensors") {
            entry["lfs"] = serde_json::json!({"oid": hash, "size": size, "pointerSize": 134});
        }
        entry
    };
    let entries: serde_json::Value = files.iter().map(entry).collect();
    send_json(stream, &entries.to_string())
}

fn redirect(stream: &mut TcpStream, location: &str, headers: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: {location}\r\n{headers}\r\n"
    )
}

fn send_json(stream: &mut TcpStream, json: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
        json.len()
    )
}

fn body(
    stream: &mut TcpStream,
    request: &Request,
    file: &[u8],
    headers: &str,
    state: &mut State,
) -> std::io::Result<()> {
    let large = headers.is_empty();
    let mut file = file.to_vec();
    match state.mischief {
        Mischief::Short if large => file.truncate(file.len() - 100),
        Mischief::Long if large => file.extend([0; 100]),
        _ => {}
    }
    let range = request.headers.get("range").filter(|_| !state.ignore_ranges);
    let (first, last) = range.map_or((0, file.len() - 1), |range| parse_range(range, file.len()));
    if first >= file.len() {
        return status(stream, 416, "");
    }
    let mut part = file[first..=last].to_vec();
    let (code, span) = match range {
        Some(_) => ("206 Partial Content", format!("Content-Range: bytes {first}-{last}/{}\r\n", file.len())),
        None => ("200 OK", String::new()),
    };
    let endless = large && state.mischief == Mischief::Endless;
    let length = if endless { String::new() } else { format!("Content-Length: {}\r\n", part.len()) };
    write!(
        stream,
        "HTTP/1.1 {code}\r\nConnection: close\r\nAccept-Ranges: bytes\r\n{length}{span}{headers}\r\n"
    )?;
    if request.method == "HEAD" {
        return Ok(());
    }
    if large {
        state.ranges.extend(request.headers.get("range").cloned());
    }
    if large && state.corrupt {
        part[0] ^= 1;
    }
    if large && state.truncate > 0 {
        state.truncate -= 1;
        part.truncate(part.len() / 2);
    }
    match state.mischief {
        Mischief::Endless if large => loop {
            stream.write_all(&[b'x'; 1 << 12])?;
            state.sent += 1 << 12;
        },
        Mischief::Stalled if large => {
            stream.write_all(&part[..part.len() / 2])?;
            std::thread::sleep(LONG);
            Ok(())
        }
        Mischief::Dripping if large => part.chunks(1).try_for_each(|byte| {
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(byte)
        }),
        _ => stream.write_all(&part),
    }
}

fn parse_range(range: &str, len: usize) -> (usize, usize) {
    let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
    (first.parse().unwrap(), last.parse().unwrap_or(len - 1).min(len - 1))
}

fn status(stream: &mut TcpStream, code: u16, error: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {code} No\r\nConnection: close\r\nX-Error-Code: {error}\r\nContent-Length: 0\r\n\r\n"
    )
}

fn sha256_hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
