//! A small HTTP server that speaks the part of the hub's API that `hf-hub` and `huggingface_hub` use.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

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

/// A running server; it ends with the process.
pub(crate) struct Server {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn start(repos: &[(&str, BTreeMap<String, Vec<u8>>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let repos = repos.iter().map(|(id, files)| ((*id).to_owned(), files.clone())).collect();
        let state = Arc::new(Mutex::new(State { repos, branch: "main".into(), ..State::default() }));
        let server = Self { url: url.clone(), state: state.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that hangs up is part of some tests.
                let _ = answer(stream.unwrap(), &url, &mut state.lock().unwrap());
            }
        });
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

fn answer(mut stream: TcpStream, url: &str, state: &mut State) -> std::io::Result<()> {
    let request = read_request(&stream)?;
    state.requests.push(format!("{} {}", request.method, request.path));
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
        return redirect(&mut stream, &request.path.replacen(&old, &new, 1));
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
        let etag = format!("X-Repo-Commit: {COMMIT}\r\nETag: \"{}\"\r\n", &hash[..40]);
        return body(&mut stream, &request, &file, &etag, state);
    }
    let location = request.path[1..].replace("/resolve/", "/-/");
    let size = file.len();
    // Another host name, as the hub's large files have: clients stop here and read these headers.
    let url = url.replace("127.0.0.1", "localhost");
    write!(
        stream,
        "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: {url}/cdn/{location}\r\n\
         X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{hash}\"\r\nX-Linked-Size: {size}\r\n\r\n"
    )
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
    let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
    let json = serde_json::json!({
        "_id": "1", "id": id, "modelId": id, "sha": COMMIT, "private": false, "disabled": false, "gated": false,
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

fn redirect(stream: &mut TcpStream, location: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 307 Moved\r\nConnection: close\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n"
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
    let range = request.headers.get("range").filter(|_| !state.ignore_ranges || headers_only(request));
    let (first, last) = range.map_or((0, file.len() - 1), |range| parse_range(range, file.len()));
    if first >= file.len() {
        return status(stream, 416, "");
    }
    let mut part = file[first..=last].to_vec();
    let code = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let head = format!(
        "HTTP/1.1 {code}\r\nConnection: close\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\n\
         Content-Range: bytes {first}-{last}/{}\r\n{headers}\r\n",
        part.len(),
        file.len()
    );
    stream.write_all(head.as_bytes())?;
    if request.method == "HEAD" || headers_only(request) {
        return if request.method == "HEAD" { Ok(()) } else { stream.write_all(&part) };
    }
    let large = headers.is_empty();
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
    stream.write_all(&part)
}

/// `hf-hub` asks for one byte where `huggingface_hub` asks for the head.
fn headers_only(request: &Request) -> bool {
    request.headers.get("range").is_some_and(|range| range == "bytes=0-0")
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
