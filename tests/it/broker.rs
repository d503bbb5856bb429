//! A real NATS server with the configuration of `deploy/nats`, and a client that speaks its protocol by hand: what the server
//! answers is what is tested, and no library's idea of it.
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use tempfile::TempDir;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The emitters that every broker here has: name and source.
pub(crate) const EMITTERS: [(&str, &str); 2] = [
    ("ci-checkout", "//ci.acme.dev/checkout"),
    ("pager", "//pager.acme.dev"),
];

/// The servers to test with: what `tests/run` installed, else what this machine has.
pub(crate) fn servers() -> Vec<PathBuf> {
    let paths = match env::var_os("WAYBILL_NATS_SERVERS") {
        Some(paths) => env::split_paths(&paths).collect(),
        None => vec![PathBuf::from("/usr/sbin/nats-server")],
    };
    let there: Vec<PathBuf> = paths.into_iter().filter(|path| path.is_file()).collect();
    if there.is_empty() {
        println!("not run: no nats-server; tests/run installs two");
    }
    there
}

/// A copy of `deploy/nats` with its users made, whose paths are in a directory of its own.
pub(crate) struct Configuration {
    pub(crate) dir: TempDir,
}

impl Configuration {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nats");
        for file in ["broker.conf", "nats.conf", "nats-2.9.conf", "nats-tls.conf"] {
            let text = fs::read_to_string(from.join(file)).unwrap();
            let at = dir.path().display().to_string();
            let text = text.replace("/var/lib/nats", &at).replace("/etc/nats", &at);
            fs::write(dir.path().join(file), text).unwrap();
        }
        let configuration = Self { dir };
        let made = configuration.make_users(&EMITTERS);
        assert!(made.status.success(), "{made:?}");
        configuration
    }

    /// Makes the users, as an operator would.
    pub(crate) fn make_users(&self, emitters: &[(&str, &str)]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nats/make_users.py");
        let emitters = emitters
            .iter()
            .flat_map(|(name, source)| ["--emitter".to_owned(), format!("{name}={source}")]);
        Command::new(script)
            .arg("--keys")
            .arg(self.dir.path().join("keys"))
            .arg("--config")
            .arg(self.dir.path().join("users.conf"))
            .args(emitters)
            .output()
            .unwrap()
    }

    /// Lets a server say whether a file of it is right.
    pub(crate) fn check(&self, server: &Path, file: &str) -> Output {
        let path = self.dir.path().join(file);
        let arguments = ["-t".as_ref(), "-c".as_ref(), path.as_os_str()];
        Command::new(server).args(arguments).output().unwrap()
    }

    /// The configuration that is meant for a server: the safe one, where it knows it.
    pub(crate) fn meant_for(&self, server: &Path) -> &'static str {
        let is_new = self.check(server, "nats.conf").status.success();
        if is_new { "nats.conf" } else { "nats-2.9.conf" }
    }

    pub(crate) fn seed(&self, user: &str) -> PathBuf {
        self.dir.path().join("keys").join(format!("{user}.nk"))
    }
}

/// A running server; stopped when dropped.
pub(crate) struct Broker {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    pub(crate) port: u16,
    pub(crate) configuration: Configuration,
}

impl Broker {
    /// Starts a server on a free port, and waits until it says that it is ready.
    pub(crate) fn start(server: &Path) -> Self {
        let configuration = Configuration::new();
        let file = configuration.meant_for(server);
        let mut child = Command::new(server)
            .arg("-c")
            .arg(configuration.dir.path().join(file))
            .args(["-p", "-1", "-m", "-1"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut port = None;
        loop {
            let line = log.next().expect("a server says that it is ready").unwrap();
            if let Some((_, address)) = line.split_once("Listening for client connections on ") {
                port = address.rsplit(':').next().unwrap().parse().ok();
            }
            if line.contains("Server is ready") {
                break;
            }
        }
        // What it says later is read to its end, so that it never waits for a reader.
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&said);
        std::thread::spawn(move || {
            log.map_while(Result::ok)
                .for_each(|line| lines.lock().unwrap().push(line));
        });
        Self {
            child,
            log: said,
            port: port.unwrap(),
            configuration,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// What it said that somebody may not do, since it was ready.
    pub(crate) fn violations(&self) -> Vec<String> {
        let lines = self.log.lock().unwrap();
        let told = lines.iter().filter(|line| line.contains("Violation"));
        told.cloned().collect()
    }

    pub(crate) fn connect(&self, user: &str) -> Client {
        let seed = fs::read_to_string(self.configuration.seed(user)).unwrap();
        let client = Client::connect(self.port, Some(seed.trim()));
        client.unwrap_or_else(|told| panic!("{user}: {told}"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server delivers.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) reply: String,
    pub(crate) payload: String,
}

/// One user's connection.
#[derive(Debug)]
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    subscriptions: u32,
}

impl Client {
    /// Connects with the key of a seed, or with none; what the server says against it, where it does.
    pub(crate) fn connect(port: u16, seed: Option<&str>) -> Result<Self, String> {
        let writer = TcpStream::connect(("127.0.0.1", port)).unwrap();
        writer.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self {
            reader: BufReader::new(writer.try_clone().unwrap()),
            writer,
            subscriptions: 0,
        };
        let info = client.line().unwrap();
        let info: serde_json::Value =
            serde_json::from_str(info.strip_prefix("INFO ").unwrap()).unwrap();
        let mut options = serde_json::json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true,
            "lang": "test", "version": "0", "protocol": 1,
        });
        if let Some(seed) = seed {
            let key = signing_key(seed);
            let signature = key.sign(info["nonce"].as_str().unwrap().as_bytes());
            options["nkey"] = public_nkey(&key).into();
            options["sig"] = URL_SAFE_NO_PAD.encode(signature.to_bytes()).into();
        }
        client.send(&format!("CONNECT {options}\r\n"));
        match client.errors().as_slice() {
            [] => Ok(client),
            errors => Err(errors.join(", ")),
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        // A server that has refused a user closes the connection: what it said is read next.
        let _ = self.writer.write_all(text.as_bytes());
    }

    pub(crate) fn publish(&mut self, subject: &str, reply: &str, payload: &str) {
        let length = payload.len();
        self.send(&format!("PUB {subject} {reply} {length}\r\n{payload}\r\n"));
    }

    pub(crate) fn subscribe(&mut self, subject: &str) {
        self.subscriptions += 1;
        let id = self.subscriptions;
        self.send(&format!("SUB {subject} {id}\r\n"));
    }

    /// Waits until the server has answered all that was sent, and gives what it refused.
    pub(crate) fn errors(&mut self) -> Vec<String> {
        self.send("PING\r\n");
        let mut errors = Vec::new();
        while let Some(line) = self.line() {
            match line.split_once(' ') {
                Some(("-ERR", error)) => errors.push(error.to_owned()),
                _ if line == "PONG" => break,
                _ => {}
            }
        }
        errors
    }

    /// Asks, and gives the one answer, under an inbox of one's own.
    pub(crate) fn request(&mut self, subject: &str, inbox: &str, payload: &str) -> Delivered {
        self.subscribe(inbox);
        let id = self.subscriptions;
        self.send(&format!("UNSUB {id} 1\r\n"));
        self.publish(subject, inbox, payload);
        self.delivered()
    }

    /// The next message.
    pub(crate) fn delivered(&mut self) -> Delivered {
        loop {
            let line = self.line().expect("a message comes");
            assert!(!line.starts_with("-ERR"), "{line}");
            let words: Vec<&str> = line.split(' ').collect();
            let (Some(verb @ ("MSG" | "HMSG")), Some(length)) =
                (words.first().copied(), words.last())
            else {
                continue;
            };
            let mut body = vec![0; length.parse::<usize>().unwrap() + 2];
            self.reader.read_exact(&mut body).unwrap();
            let headers = if verb == "HMSG" {
                words[words.len() - 2].parse().unwrap()
            } else {
                0
            };
            let plain_words = if verb == "HMSG" { 5 } else { 4 };
            let has_reply = words.len() > plain_words;
            return Delivered {
                reply: if has_reply {
                    words[3].to_owned()
                } else {
                    String::new()
                },
                payload: String::from_utf8(body[headers..body.len() - 2].to_vec()).unwrap(),
            };
        }
    }

    /// A line without its end; none when the server has hung up.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.reader.read_line(&mut line).ok()?;
        (length > 0).then(|| line.trim_end().to_owned())
    }
}

/// The key of a user's seed: behind two bytes of prefix, before two of checksum, in base32.
fn signing_key(seed: &str) -> SigningKey {
    let bytes = from_base32(seed);
    SigningKey::from_bytes(&bytes[2..34].try_into().unwrap())
}

/// A user's public key as NATS writes it.
fn public_nkey(key: &SigningKey) -> String {
    const USER: u8 = 20 << 3;
    let mut bytes = vec![USER];
    bytes.extend(key.verifying_key().to_bytes());
    bytes.extend(crc16(&bytes).to_le_bytes());
    to_base32(&bytes)
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn from_base32(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for byte in text.bytes() {
        let digit = BASE32.iter().position(|it| *it == byte).unwrap();
        bits = bits << 5 | u32::try_from(digit).unwrap();
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count).to_le_bytes()[0]);
        }
    }
    bytes
}

fn to_base32(bytes: &[u8]) -> String {
    let (mut bits, mut count, mut text) = (0_u32, 0, String::new());
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(char::from(BASE32[(bits >> count & 31) as usize]));
        }
    }
    if count > 0 {
        text.push(char::from(BASE32[(bits << (5 - count) & 31) as usize]));
    }
    text
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            let carry = if crc & 0x8000 == 0 { 0 } else { 0x1021 };
            crc << 1 ^ carry
        })
    })
}
