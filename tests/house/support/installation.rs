//! An installation that is begun and worked by commands alone, as a person or a script would.

use super::{DEADLINE, Town, until};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// An installation in a folder of its own; both go when it is dropped.
pub struct Installation {
    folder: PathBuf,
    /// What the beginning printed.
    pub begun: Value,
    pub url: String,
    child: Option<Child>,
}

pub fn weir(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).env_remove("WEIR_KEY").env_remove("WEIR_URL").stdin(Stdio::null());
    command
}

#[track_caller]
pub fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Begins in the folder, at any ports.
fn init(data: &str) -> Output {
    let any = "127.0.0.1:0";
    weir(&["init", "--data", data, "--http", any, "--smtp", any, "--smtps", any, "--json"]).output().unwrap()
}

impl Installation {
    /// Begun and open, with mail for `*.test` going to the town's first host.
    pub fn open(town: &Town, name: &str) -> Installation {
        Installation::open_with(town, name, "")
    }

    /// The same with more lines in its section `[control]`.
    pub fn open_with(town: &Town, name: &str, control: &str) -> Installation {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("line-{}-{name}", std::process::id()));
        let data = folder.join("data").display().to_string();
        fs::create_dir_all(&folder).unwrap();
        let begun = serde_json::from_str(&printed(&init(&data))).unwrap();
        let again = init(&data);
        assert_eq!(again.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&again.stderr).contains("is an installation already"));

        let config = folder.join("data/weir.toml");
        let written = fs::read_to_string(&config).unwrap().replace("[control]\n", &format!("[control]\n{control}\n"));
        let outside = format!(
            "[delivery]\ntls = \"never\"\ndane = false\nmta_sts = false\nallow_private = [\"127.0.0.0/8\"]\nport = {}\n\
             [dns]\nonly_answers = true\n[[dns.answer]]\ndomain = \"*.test\"\nmx = [\"mx.sink.test\"]\naddresses = [\"{}\"]\n",
            town.port(),
            town.host(1),
        );
        fs::write(&config, written + &outside).unwrap();
        let log = folder.join("log");
        let heard = fs::File::create(&log).unwrap();
        let child = weir(&["serve", "--data", &data]).stdout(Stdio::null()).stderr(heard).spawn().unwrap();
        let mut house = Installation { folder, begun, url: String::new(), child: Some(child) };
        let lines = until(&format!("weir is open within {DEADLINE:?}, see {}", log.display()), || {
            let lines = fs::read_to_string(&log).unwrap();
            lines.contains("weir is open").then_some(lines)
        });
        let http = lines.lines().find(|line| line.contains("taking calls by HTTP")).unwrap();
        house.url = format!("http://{}", http.split("address=").nth(1).unwrap().split_whitespace().next().unwrap());
        house
    }

    pub fn run(&self, key: &str, arguments: &[&str]) -> Output {
        weir(arguments).env("WEIR_URL", &self.url).env("WEIR_KEY", key).output().unwrap()
    }

    pub fn key(&self) -> &str {
        self.begun["key"].as_str().unwrap()
    }

    /// As the operator: what is printed.
    #[track_caller]
    pub fn say(&self, line: &str) -> String {
        printed(&self.run(self.key(), &line.split_whitespace().collect::<Vec<_>>()))
    }

    /// The same as a program reads it.
    #[track_caller]
    pub fn ask(&self, line: &str) -> Value {
        serde_json::from_str(&self.say(&format!("{line} --json"))).unwrap()
    }

    /// What is printed where it fails.
    #[track_caller]
    pub fn refused(&self, line: &str) -> String {
        let output = self.run(self.key(), &line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(1), "{line}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
