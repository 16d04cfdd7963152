//! How does a test open the house? It writes a configuration, starts the real binary on it, and watches what it says.

use super::memory::MemoryLimit;
use super::submitter::{HttpAnswer, Smtp, call};
use super::town::Town;
use super::{DEADLINE, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub const OPERATOR: &str = "operator-key-of-the-tests";
pub const SHOP: &str = "shop-key-of-the-tests";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A configuration in the making. Unless said otherwise: one account `shop` that may send as anybody and needs no password from
/// loopback, all of `*.test` at the town's first host, mail from the town's first source, no TLS.
pub struct Plan {
    limits: BTreeMap<String, String>,
    delivery: BTreeMap<String, String>,
    patience: BTreeMap<String, u64>,
    answers: Vec<String>,
    dns: String,
    sources: Vec<(IpAddr, String)>,
    pools: Vec<String>,
    shaping: String,
    account: String,
    more: String,
    folder: Option<PathBuf>,
    descriptors: Option<u32>,
    /// Where the process enters itself before it begins.
    group: Option<PathBuf>,
    environment: Vec<(String, String)>,
    control: Option<Control>,
}

/// A house whose tenants are in a database.
struct Control {
    /// None: a file in the data folder.
    database: Option<String>,
    /// The operator's key, where the installation was begun before.
    key: Option<String>,
}

impl Plan {
    pub fn new(town: &Town) -> Plan {
        let mut plan = Plan {
            limits: BTreeMap::new(),
            delivery: BTreeMap::new(),
            patience: BTreeMap::new(),
            answers: Vec::new(),
            dns: "only_answers = true".to_owned(),
            sources: vec![(town.source(0), "out0.weir.test".to_owned())],
            pools: Vec::new(),
            // The ramp is for providers that judge; these do not.
            shaping: "connections_max = 20\nmessages_per_connection = 1000000\nmessages_per_second = 0\nramp = false"
                .to_owned(),
            account: "senders = \"any\"".to_owned(),
            more: String::new(),
            folder: None,
            descriptors: None,
            group: None,
            environment: Vec::new(),
            control: None,
        };
        plan.limits.insert("connections_per_peer_max".into(), "2000".into());
        for (key, value) in
            [("tls", "\"never\""), ("dane", "false"), ("mta_sts", "false"), ("allow_private", "[\"127.0.0.0/8\"]")]
        {
            plan.delivery.insert(key.into(), value.into());
        }
        plan.delivery.insert("port".into(), town.port().to_string());
        plan.answer("*.test", &["mx.sink.test"], &[town.host(1)])
    }

    pub fn limit(mut self, name: &str, value: u64) -> Plan {
        self.limits.insert(name.to_owned(), value.to_string());
        self
    }

    pub fn delivery(mut self, name: &str, value: &str) -> Plan {
        self.delivery.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn patience(mut self, name: &str, seconds: u64) -> Plan {
        self.patience.insert(name.to_owned(), seconds);
        self
    }

    /// Stands before the answers given earlier.
    pub fn answer(mut self, domain: &str, mx: &[&str], addresses: &[IpAddr]) -> Plan {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        self.answers
            .insert(0, format!("[[dns.answer]]\ndomain = {domain:?}\nmx = {mx:?}\naddresses = {addresses:?}\n"));
        self
    }

    /// Real look-ups, at this server.
    pub fn ask(mut self, server: SocketAddr) -> Plan {
        self.answers.clear();
        self.dns = format!("servers = [\"{server}\"]");
        self
    }

    /// A server that is believed about DNSSEC.
    pub fn believe(mut self, validator: SocketAddr) -> Plan {
        self.dns.push_str(&format!("\nvalidator = \"{validator}\""));
        self
    }

    /// The shared pool's IPs, with their EHLO names.
    pub fn sources(mut self, sources: &[(IpAddr, &str)]) -> Plan {
        self.sources = sources.iter().map(|(ip, ehlo)| (*ip, (*ehlo).to_owned())).collect();
        self
    }

    /// A pool of `shop`'s own.
    pub fn pool(mut self, id: &str, sources: &[(IpAddr, &str)]) -> Plan {
        for (ip, ehlo) in sources {
            self.more.push_str(&format!("[[ip]]\naddress = \"{ip}\"\nehlo = \"{ehlo}\"\n"));
        }
        let ips: Vec<String> = sources.iter().map(|(ip, _)| ip.to_string()).collect();
        self.pools.push(format!("[[pool]]\nid = \"{id}\"\nkind = \"standard\"\naccount = \"shop\"\nips = {ips:?}\n"));
        self
    }

    pub fn shaping(mut self, lines: &str) -> Plan {
        self.shaping = lines.to_owned();
        self
    }

    /// What stands in the account `shop`.
    pub fn account(mut self, lines: &str) -> Plan {
        self.account = lines.to_owned();
        self
    }

    /// Whole sections.
    pub fn more(mut self, sections: &str) -> Plan {
        self.more.push_str(sections);
        self.more.push('\n');
        self
    }

    /// The data lies here instead of in a folder that is swept away.
    pub fn data_in(mut self, folder: &Path) -> Plan {
        self.folder = Some(folder.to_owned());
        self
    }

    /// The process may have so many files and sockets.
    pub fn descriptors(mut self, count: u32) -> Plan {
        self.descriptors = Some(count);
        self
    }

    /// The process may have no more memory than this group.
    pub fn memory(mut self, limit: &MemoryLimit) -> Plan {
        self.group = Some(limit.members());
        self
    }

    /// The process has this in its environment.
    pub fn environment(mut self, pairs: Vec<(String, String)>) -> Plan {
        self.environment.extend(pairs);
        self
    }

    /// Tenants, IPs and pools are in a database, none of them there yet: a file in the data folder, or this one.
    pub fn control(mut self, database: Option<&str>) -> Plan {
        self.control = Some(Control { database: database.map(str::to_owned), key: None });
        self
    }

    /// The installation was begun before, and this is its operator's key.
    pub fn begun(mut self, key: &str) -> Plan {
        self.control.as_mut().expect("with control").key = Some(key.to_owned());
        self
    }

    fn tenants(&self) -> String {
        if let Some(control) = &self.control {
            let database = control.database.iter().map(|url| format!("database = {url:?}\n"));
            return format!("[control]\n{}webhooks_allow_private = [\"127.9.0.0/16\"]\n", database.collect::<String>());
        }
        let ips: Vec<String> = self.sources.iter().map(|(ip, _)| ip.to_string()).collect();
        let sources: String =
            self.sources.iter().map(|(ip, ehlo)| format!("[[ip]]\naddress = \"{ip}\"\nehlo = \"{ehlo}\"\n")).collect();
        format!(
            "[[account]]\nid = \"shop\"\n{account}\n\
             [[credential]]\naccount = \"shop\"\nkey = \"{SHOP}\"\n\
             {sources}[[pool]]\nid = \"shared\"\nkind = \"shared\"\nips = {ips:?}\n\
             {pools}",
            account = self.account,
            pools = self.pools.concat(),
        )
    }

    pub fn text(&self) -> String {
        let lines = |map: &BTreeMap<String, String>| -> String {
            map.iter().map(|(name, value)| format!("{name} = {value}\n")).collect()
        };
        let patience: String = self.patience.iter().map(|(name, seconds)| format!("{name} = {seconds}\n")).collect();
        let operator = match self.control {
            Some(_) => String::new(),
            None => format!("operator_key = \"{OPERATOR}\"\n"),
        };
        format!(
            "host = \"weir.test\"\n\
             [limits]\n{limits}\
             [[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\ntrusted = [\"127.0.0.0/8\"]\naccount = \"shop\"\n\
             [http]\naddress = \"127.0.0.1:0\"\n{operator}\
             {tenants}[delivery]\n{delivery}[delivery.patience]\n{patience}\
             [dns]\n{dns}\n{answers}\
             [[shaping]]\nprovider = \"default\"\n{shaping}\n{more}",
            limits = lines(&self.limits),
            tenants = self.tenants(),
            delivery = lines(&self.delivery),
            dns = self.dns,
            answers = self.answers.concat(),
            shaping = self.shaping,
            more = self.more,
        )
    }

    /// With the house's own folder made and its file written; `weir` is not started.
    pub fn prepare(self) -> House {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("house-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let config = folder.join("weir.toml");
        fs::write(&config, self.text()).unwrap();
        let data = self.folder.clone().unwrap_or_else(|| folder.join("data"));
        let mut house = House {
            folder,
            config,
            data,
            descriptors: self.descriptors,
            group: self.group,
            environment: self.environment,
            operator: OPERATOR.to_owned(),
            reader: SHOP.to_owned(),
            child: None,
            log: Log::default(),
            smtp: Vec::new(),
            http: None,
        };
        if let Some(control) = self.control {
            house.operator = control.key.unwrap_or_else(|| house.begin());
            house.reader = house.operator.clone();
        }
        house
    }

    pub fn open(self) -> House {
        let mut house = self.prepare();
        house.start();
        house
    }
}

/// What the process has said since it was started last.
#[derive(Clone, Default)]
struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    fn say(&self, line: String) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        self.0.1.notify_all();
    }

    fn lines(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first line with these words.
    fn wait(&self, words: &str, deadline: Duration) -> Option<String> {
        let began = Instant::now();
        let mut lines = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(words)) {
                return Some(line.clone());
            }
            let left = deadline.checked_sub(began.elapsed())?;
            lines = self.0.1.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The running service, with its folder; both go when it is dropped.
pub struct House {
    folder: PathBuf,
    pub config: PathBuf,
    pub data: PathBuf,
    descriptors: Option<u32>,
    group: Option<PathBuf>,
    environment: Vec<(String, String)>,
    /// The operator's key.
    pub operator: String,
    /// Whose stories of messages are asked for.
    reader: String,
    child: Option<Child>,
    log: Log,
    smtp: Vec<SocketAddr>,
    http: Option<SocketAddr>,
}

impl House {
    fn command(&self) -> Command {
        let binary = env!("CARGO_BIN_EXE_weir");
        let mut before = String::new();
        if let Some(count) = self.descriptors {
            before.push_str(&format!("ulimit -n {count}; "));
        }
        if let Some(group) = &self.group {
            before.push_str(&format!("echo $$ > '{}' || exit 1; ", group.display()));
        }
        let mut command = if before.is_empty() {
            Command::new(binary)
        } else {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{before}exec \"$0\" \"$@\""), binary]);
            shell
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("serve").arg("--config").arg(&self.config).arg("--data").arg(&self.data);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// `weir init`; the operator's key.
    fn begin(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["init", "--json", "--config"]).arg(&self.config).arg("--data").arg(&self.data);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        told["key"].as_str().unwrap().to_owned()
    }

    /// Starts, also again, on the same data.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it is running");
        let mut child = self.command().spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Log::default();
        let ear = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                ear.say(line);
            }
            ear.say("[the process has ended]".to_owned());
        });
        self.log = log;
        self.child = Some(child);
        let open = |line: &str| line.contains("weir is open") || line.contains("[the process has ended]");
        until("the house is open", || self.log.lines().iter().any(|line| open(line)).then_some(()));
        let lines = self.log.lines();
        assert!(!lines.iter().any(|line| line.contains("[the process has ended]")), "{}", lines.join("\n"));
        let addresses = |words: &str| -> Vec<SocketAddr> {
            lines.iter().filter(|line| line.contains(words)).filter_map(|line| address_in(line)).collect()
        };
        self.smtp = addresses("taking mail by SMTP");
        self.http = addresses("taking calls by HTTP").first().copied();
    }

    /// A second process on the same folder, which is expected to end by itself.
    pub fn start_second(&self) -> Output {
        let child = self.command().spawn().unwrap();
        child.wait_with_output().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// Where mail is taken, in the order of the file.
    pub fn doors(&self) -> &[SocketAddr] {
        &self.smtp
    }

    pub fn smtp_at(&self) -> SocketAddr {
        self.smtp[0]
    }

    pub fn http_at(&self) -> SocketAddr {
        self.http.expect("it listens for HTTP")
    }

    /// Where another door is, by the words that the log says of it.
    pub fn door(&self, words: &str) -> SocketAddr {
        self.log
            .lines()
            .iter()
            .filter(|line| line.contains(words))
            .find_map(|line| address_in(line))
            .expect("it is open")
    }

    pub fn smtp(&self) -> Smtp {
        Smtp::open(self.smtp_at())
    }

    pub fn signal(&self, name: &str) {
        let order = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &order]).status().unwrap().success());
    }

    /// Like a power cut for the process: nothing of it runs on.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it is running");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and how it ended, and after how long.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        self.signal("TERM");
        self.wait_ended()
    }

    pub fn wait_ended(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        let mut child = self.child.take().expect("it is running");
        let status = until("the process ends", || child.try_wait().unwrap());
        (status, began.elapsed())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub fn log(&self) -> String {
        self.log.lines().join("\n")
    }

    pub fn wait_log(&self, words: &str) -> String {
        self.log.wait(words, DEADLINE).unwrap_or_else(|| panic!("the log never says “{words}”:\n{}", self.log()))
    }

    // By HTTP.

    pub fn call(&self, method: &str, path: &str, key: &str, body: &Value) -> HttpAnswer {
        let octets = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        call(self.http_at(), method, path, Some(key), &octets).unwrap()
    }

    pub fn post(&self, body: &Value) -> HttpAnswer {
        self.call("POST", "/api/v1/messages", SHOP, body)
    }

    /// Hands a message in as JSON; its id.
    pub fn submit(&self, body: &Value) -> String {
        let answer = self.post(body);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// One plain message; its id.
    pub fn submit_to(&self, to: &str) -> String {
        self.submit(&json!({ "from": "ann@shop.test", "to": [to], "subject": "Hello", "text": "Hello.\n" }))
    }

    pub fn explain(&self, id: &str) -> Value {
        // A message that is gone from the queue this very moment may not have reached the log yet.
        until(&format!("{id} is explained"), || {
            let answer = self.call("GET", &format!("/api/v1/messages/{id}"), &self.reader, &Value::Null);
            (answer.status == 200).then(|| answer.json())
        })
    }

    /// The only recipient's part of the story.
    pub fn recipient(&self, id: &str) -> Value {
        self.explain(id)["recipients"][0].clone()
    }

    /// Waits until the only recipient is in this state.
    pub fn wait_state(&self, id: &str, state: &str) -> Value {
        until(&format!("{id} is {state}; now {}", self.explain(id)), || {
            let recipient = self.recipient(id);
            (recipient["state"] == state).then_some(recipient)
        })
    }

    /// Waits until the only recipient waits after an attempt, and for this reason.
    pub fn wait_why(&self, id: &str, code: &str) -> Value {
        self.wait_why_of(id, 0, code)
    }

    /// The same for one of several.
    pub fn wait_why_of(&self, id: &str, place: usize, code: &str) -> Value {
        let found = super::within(DEADLINE, || {
            let recipient = self.explain(id)["recipients"][place].clone();
            (recipient["state"] == "queued" && recipient["why"]["code"] == code).then_some(recipient)
        });
        found.unwrap_or_else(|| panic!("{id} never waits because of {code}: {}", self.explain(id)))
    }

    /// Brings the next attempt of everything forward.
    pub fn retry_all(&self) {
        let answer = self.call("POST", "/api/v1/queue/retry", &self.operator, &json!({ "all": true }));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    pub fn retry(&self, id: &str) {
        let answer = self.call("POST", "/api/v1/queue/retry", &self.operator, &json!({ "message": id }));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// A number of the metrics page; 0 where it does not stand there.
    pub fn figure(&self, name: &str) -> f64 {
        let page = call(self.http_at(), "GET", "/metrics", None, b"").unwrap();
        let page = String::from_utf8(page.body).unwrap();
        let lines = page.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub fn wait_queue_empty(&self) {
        super::until_true("the queue is empty", || self.queued() == 0);
    }

    /// Messages that the queue lists, up to a thousand.
    pub fn queued(&self) -> usize {
        let answer = self.call("GET", "/api/v1/queue?limit=1000", &self.operator, &Value::Null);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()["messages"].as_array().unwrap().len()
    }

    // By the command line.

    /// `weir` with these words, as the operator.
    pub fn weir(&self, words: &[&str]) -> Output {
        self.weir_as(&self.operator, words)
    }

    pub fn weir_as(&self, key: &str, words: &[&str]) -> Output {
        let url = format!("http://{}", self.http_at());
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(words).env("WEIR_URL", url).env("WEIR_KEY", key).stdin(Stdio::null()).output().unwrap()
    }

    // What /proc says.

    /// Seconds of a processor that the process has used so far.
    pub fn cpu_s(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // Behind the name, which may hold anything, the 12th and 13th are the times in user and kernel mode.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // Linux tells user space 100 ticks a second, whatever the kernel's own are.
        ticks as f64 / 100.0
    }

    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn descriptors_open(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let lines = self.log.lines();
            let tail = lines.len().saturating_sub(60);
            eprintln!("--- what the house said last ({}):\n{}\n---", self.folder.display(), lines[tail..].join("\n"));
            return;
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let rest = line.split("address=").nth(1)?;
    rest.split_whitespace().next()?.trim_matches('"').parse().ok()
}
