//! How does a typed line become a call of the interface, and its answer words? A verb is a row that says so; a noun is its rows.
//!
//! What all verbs share is added here once: where the service is, `--json`, `--account`, names in the path, pages of a list, keys and
//! conditions of a change. A field of a body or a query is named as in the interface, with hyphens.

use crate::client::{Answer, BASE, Fault, Target, escaped};
use crate::commands::show::{card, items, table, text};
use crate::commands::{Done, Failure, runtime, say};
use clap::builder::PossibleValuesParser;
use clap::{ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _, value_parser};
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};
use std::io::{BufRead as _, IsTerminal as _, Read as _};

/// The caller's own account, where none is named.
const OWN: &str = "self";
const ACCOUNT: &str = "account";

/// A thing, and what can be asked about it.
pub struct Noun {
    pub name: &'static str,
    pub about: &'static str,
    pub verbs: &'static [Verb],
}

#[derive(Clone, Copy)]
pub struct Verb {
    pub name: &'static str,
    pub about: &'static str,
    pub act: Act,
    /// Below the base. What stands in brackets is left out where no account is named.
    pub path: &'static str,
    pub example: &'static str,
    pub args: &'static [Arg],
    /// What the body says, whatever is typed.
    pub fixed: &'static [(&'static str, &'static str)],
    shown: Shown,
    way: fn(&Line) -> Result<Answer, Fault>,
    door: Door,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

#[derive(Clone, Copy, PartialEq)]
enum Door {
    Key,
    /// It is how one gets a key.
    Open,
}

/// What a reader sees of the answer.
#[derive(Clone, Copy)]
pub enum Shown {
    /// These fields.
    Card(&'static [&'static str]),
    /// `items`, in these columns.
    Table(&'static [&'static str]),
    /// A sentence; what stands in braces is as it was typed.
    Said(&'static str),
    Page(fn(&Value, &Line) -> String),
}

#[derive(Clone, Copy)]
pub struct Arg {
    pub name: &'static str,
    pub words: &'static str,
    pub place: Place,
    pub kind: Kind,
    need: Need,
    values: &'static [&'static str],
    /// A shorter name that is as good.
    also: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Path,
    Query,
    Body,
    /// For the verb's own way, or what is shown.
    Here,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    Decimal,
    Flag,
    YesNo,
    List,
    /// `name=value,name=value`; what stands there twice is a list.
    Object,
    /// Several of them.
    Objects,
    /// What the file holds; `-` is standard input.
    File,
    /// A line of standard input, so that it is in no history.
    Secret,
    /// The field of this name becomes null.
    Away(&'static str),
}

#[derive(Clone, Copy)]
enum Need {
    Optional,
    Required,
    Positional,
    Default(&'static str),
}

impl Act {
    pub fn method(self) -> Method {
        match self {
            Act::Get => Method::GET,
            Act::Post => Method::POST,
            Act::Put => Method::PUT,
            Act::Patch => Method::PATCH,
            Act::Delete => Method::DELETE,
        }
    }
}

impl Verb {
    /// A row: what is typed, what is called, what it does, what is shown, and a line that shows it.
    pub const fn row(
        name: &'static str,
        (act, path): (Act, &'static str),
        about: &'static str,
        shown: Shown,
        example: &'static str,
    ) -> Verb {
        Verb { name, about, act, path, example, args: &[], fixed: &[], shown, way: as_typed, door: Door::Key }
    }

    pub const fn takes(mut self, args: &'static [Arg]) -> Verb {
        self.args = args;
        self
    }

    pub const fn says(mut self, fixed: &'static [(&'static str, &'static str)]) -> Verb {
        self.fixed = fixed;
        self
    }

    /// More than one call, or a body that is more than what was typed.
    pub const fn by(mut self, way: fn(&Line) -> Result<Answer, Fault>) -> Verb {
        self.way = way;
        self
    }

    pub const fn open(mut self) -> Verb {
        self.door = Door::Open;
        self
    }
}

fn as_typed(line: &Line) -> Result<Answer, Fault> {
    line.ask()
}

/// A field of the body.
pub const fn body(name: &'static str, words: &'static str) -> Arg {
    Arg { name, words, place: Place::Body, kind: Kind::Text, need: Need::Optional, values: &[], also: None }
}

/// A field of the query.
pub const fn query(name: &'static str, words: &'static str) -> Arg {
    Arg { place: Place::Query, ..body(name, words) }
}

/// A name in the path that is an option, or has words of its own.
pub const fn path(name: &'static str, words: &'static str) -> Arg {
    Arg { place: Place::Path, ..body(name, words) }
}

pub const fn here(name: &'static str, words: &'static str) -> Arg {
    Arg { place: Place::Here, ..body(name, words) }
}

/// `--no-pool` for the field `pool`.
pub const fn away(name: &'static str, field: &'static str, words: &'static str) -> Arg {
    Arg { kind: Kind::Away(field), ..body(name, words) }
}

macro_rules! shapes {
    ($($shape:ident: $part:ident = $value:expr),* $(,)?) => { impl Arg { $(
        pub const fn $shape(mut self) -> Arg {
            self.$part = $value;
            self
        }
    )* } };
}
shapes! {
    number: kind = Kind::Number,
    decimal: kind = Kind::Decimal,
    flag: kind = Kind::Flag,
    yes_no: kind = Kind::YesNo,
    list: kind = Kind::List,
    object: kind = Kind::Object,
    objects: kind = Kind::Objects,
    file: kind = Kind::File,
    secret: kind = Kind::Secret,
    required: need = Need::Required,
    positional: need = Need::Positional,
}

impl Arg {
    pub const fn or(mut self, default: &'static str) -> Arg {
        self.need = Need::Default(default);
        self
    }

    pub const fn also(mut self, name: &'static str) -> Arg {
        self.also = Some(name);
        self
    }

    pub const fn one_of(mut self, values: &'static [&'static str]) -> Arg {
        self.values = values;
        self
    }

    #[cfg(test)]
    pub fn values(&self) -> &'static [&'static str] {
        self.values
    }

    /// As the interface writes it.
    pub fn field(&self) -> String {
        match self.kind {
            Kind::Away(field) => field.to_owned(),
            _ => self.name.replace('-', "_"),
        }
    }

    fn typed(&self) -> clap::Arg {
        let arg = clap::Arg::new(self.name).help(self.words).value_name(self.name.to_uppercase().replace('-', "_"));
        let arg = match self.need {
            Need::Positional => arg.required(true),
            Need::Required => arg.long(self.name).required(true),
            Need::Default(value) => arg.long(self.name).default_value(value),
            Need::Optional => arg.long(self.name),
        };
        let arg = match self.kind {
            Kind::Flag => arg.action(ArgAction::SetTrue),
            Kind::Away(field) => arg.action(ArgAction::SetTrue).conflicts_with(field.replace('_', "-")),
            Kind::Number => arg.value_name("N").value_parser(value_parser!(i64)),
            Kind::Decimal => arg.value_name("N").value_parser(value_parser!(f64)),
            Kind::YesNo => arg.value_parser(["yes", "no"]),
            Kind::File => arg.value_name("FILE"),
            Kind::List if matches!(self.need, Need::Positional) => arg.num_args(1..).value_delimiter(','),
            Kind::List => arg.action(ArgAction::Append).value_delimiter(','),
            Kind::Object => arg.value_name("FIELD=VALUE,…"),
            Kind::Objects => arg.value_name("FIELD=VALUE,…").action(ArgAction::Append),
            Kind::Text | Kind::Secret => arg,
        };
        let arg = if self.values.is_empty() { arg } else { arg.value_parser(PossibleValuesParser::new(self.values)) };
        match self.also {
            Some(also) => arg.visible_alias(also),
            None => arg,
        }
    }
}

/// What may stand in braces in a path, for readers.
const NAMES: &[(&str, &str)] = &[
    ("subaccount", "The subaccount, by name or id"),
    ("set", "The configuration set, by name or id"),
    ("pool", "The pool, by its name in the home region or by id"),
    ("ip", "The address"),
    ("release", "The release, by the id that `weir lease release` printed"),
    ("region", "The region"),
    ("name", "The setting; see `weir setting list`"),
    ("credential", "The key's id; see `weir key list`"),
    ("domain", "The domain, such as example.com"),
    ("selector", "The selector of the key; see `weir domain keys`"),
    ("address", "The mail address"),
    ("person", "The person, by mail address or id"),
    ("session", "The session's id; see `weir person sessions`"),
    ("webhook", "The webhook, by name or id"),
    ("id", "The message's id, as it was answered when it was handed in"),
];

/// The parts of a path: words, and names in braces.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

impl Noun {
    pub fn command(&self) -> Command {
        let verbs = self.verbs.iter().map(Verb::command);
        let command = Command::new(self.name).about(self.about).subcommand_required(true).arg_required_else_help(true);
        command.subcommands(verbs)
    }

    pub fn run(&self, matches: &ArgMatches) -> Done {
        let typed = matches.subcommand();
        match typed.and_then(|(name, below)| Some((self.verbs.iter().find(|verb| verb.name == name)?, below))) {
            Some((verb, below)) => verb.run(below),
            None => Err(Failure(format!("weir {} needs a word more; see its --help", self.name))),
        }
    }
}

impl Verb {
    pub fn command(&self) -> Command {
        let example = format!("Example:\n  {}", self.example);
        let mut command = Command::new(self.name).after_help(example).args(self.typed());
        command =
            command.next_help_heading("For scripts").arg(flag("json", "Print the answer of the service as it is"));
        match self.act {
            Act::Get if matches!(self.shown, Shown::Table(_)) => {
                command = command
                    .arg(
                        option("limit", "N", "At most so many")
                            .value_parser(value_parser!(i64))
                            .help_heading("Options"),
                    )
                    .arg(option("after", "NEXT", "Go on where the page before ended").help_heading("Options"));
            }
            Act::Post => {
                let words = "The same key with the same line is carried out once, and answered with the first answer";
                command = command.arg(option("idempotency-key", "KEY", words));
            }
            Act::Patch => {
                let words = "Change nothing but this revision: what somebody else changed meanwhile stays";
                command = command.arg(option("if-revision", "N", words).value_parser(value_parser!(i64)));
            }
            Act::Get | Act::Put | Act::Delete => {}
        }
        // What a group of arguments says of itself would stand in place of what the verb does.
        Target::augment_args(command).about(self.about)
    }

    fn typed(&self) -> Vec<clap::Arg> {
        let mut typed = Vec::new();
        for name in names(self.path).filter(|name| self.args.iter().all(|arg| arg.name != *name)) {
            if name == ACCOUNT {
                let own = if self.path.starts_with('[') {
                    "without it, what is the operator's or the key's own"
                } else {
                    "without it, the key's own"
                };
                typed.push(option(ACCOUNT, "ACCOUNT", "").help(format!("The account, by name or id; {own}")));
                continue;
            }
            let words = NAMES.iter().find(|(known, _)| *known == name).map_or("", |(_, words)| *words);
            typed.push(path(name, words).positional().typed());
        }
        typed.extend(self.args.iter().map(Arg::typed));
        typed
    }

    pub fn run(&self, matches: &ArgMatches) -> Done {
        let line = Line { verb: self, matches, target: Target::from_arg_matches(matches)? };
        let answer = (self.way)(&line).map_err(|fault| line.failed(&fault))?;
        if line.is("json") {
            // What is gone has no answer.
            if !answer.to_string().is_empty() {
                say(answer);
            }
        } else {
            say(line.page(&answer.value));
        }
        Ok(())
    }
}

fn flag(name: &'static str, words: &'static str) -> clap::Arg {
    clap::Arg::new(name).long(name).help(words).action(ArgAction::SetTrue)
}

fn option(name: &'static str, value: &'static str, words: &'static str) -> clap::Arg {
    clap::Arg::new(name).long(name).help(words).value_name(value)
}

/// What was typed.
pub struct Line<'a> {
    verb: &'a Verb,
    matches: &'a ArgMatches,
    target: Target,
}

impl Line<'_> {
    /// One call, as the row says.
    pub fn ask(&self) -> Result<Answer, Fault> {
        self.ask_with(self.body()?)
    }

    pub fn ask_with(&self, body: Map<String, Value>) -> Result<Answer, Fault> {
        let path = self.asked_path()?;
        let body = (!matches!(self.verb.act, Act::Get | Act::Delete)).then_some(Value::Object(body));
        let mut headers = Vec::new();
        headers.extend(self.text("idempotency-key").map(|key| ("idempotency-key", key.to_owned())));
        headers.extend(self.number("if-revision").map(|revision| ("if-match", format!("\"{revision}\""))));
        self.call(self.verb.act, &path, body.as_ref(), &headers)
    }

    /// Prints a line for each event of a stream, for as long as it is let.
    pub fn follow(&self, line: &mut dyn FnMut(&Value) -> String) -> Result<Answer, Fault> {
        self.target.must_have_key()?;
        let path = format!("{BASE}/{}", self.asked_path()?);
        waiting()?.block_on(self.target.follow(&path, &mut |event| say(line(event))))
    }

    /// The path with its query, as typed.
    fn asked_path(&self) -> Result<String, Fault> {
        let mut query: Vec<String> = Vec::new();
        for arg in self.verb.args.iter().filter(|arg| arg.place == Place::Query) {
            let value = self.value(arg)?.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            query.extend(value.map(|value| format!("{}={}", arg.field(), escaped(&value))));
        }
        query.extend(self.number("limit").map(|limit| format!("limit={limit}")));
        query.extend(self.text("after").map(|after| format!("after={}", escaped(after))));
        let mut path = self.filled(self.verb.path);
        if !query.is_empty() {
            path.push_str(&format!("?{}", query.join("&")));
        }
        Ok(path)
    }

    pub fn call(
        &self,
        act: Act,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, String)],
    ) -> Result<Answer, Fault> {
        if self.verb.door == Door::Key {
            self.target.must_have_key()?;
        }
        waiting()?.block_on(self.target.ask(act.method(), &format!("{BASE}/{path}"), body, headers))
    }

    pub fn account_id(&self, called: &str) -> Result<String, Fault> {
        waiting()?.block_on(self.target.account_id(called))
    }

    /// A path with what was typed in place of its names.
    pub fn filled(&self, path: &str) -> String {
        let account = self.text(ACCOUNT);
        let mut path = match path.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((of_account, rest)) if account.is_some() => format!("{of_account}{rest}"),
            Some((_, rest)) => rest.to_owned(),
            None => path.to_owned(),
        };
        for name in names(self.verb.path) {
            let value = self.text(name).unwrap_or(OWN);
            path = path.replace(&format!("{{{name}}}"), &escaped(value));
        }
        path
    }

    pub fn body(&self) -> Result<Map<String, Value>, Fault> {
        let mut body: Map<String, Value> =
            self.verb.fixed.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        for arg in self.verb.args.iter().filter(|arg| arg.place == Place::Body) {
            if let Some(value) = self.value(arg)? {
                body.insert(arg.field(), value);
            }
        }
        Ok(body)
    }

    fn value(&self, arg: &Arg) -> Result<Option<Value>, Fault> {
        Ok(match arg.kind {
            Kind::Text => self.text(arg.name).map(|text| json!(text)),
            Kind::Number => self.number(arg.name).map(|number| json!(number)),
            Kind::Decimal => self.matches.try_get_one::<f64>(arg.name).ok().flatten().map(|number| json!(number)),
            Kind::Flag => self.is(arg.name).then_some(json!(true)),
            Kind::YesNo => self.text(arg.name).map(|word| json!(word == "yes")),
            Kind::List => self.matches.get_many::<String>(arg.name).map(|all| json!(all.collect::<Vec<_>>())),
            Kind::Object => self.text(arg.name).map(object).transpose()?,
            Kind::Objects => {
                let all = self.matches.get_many::<String>(arg.name);
                all.map(|all| all.map(|text| object(text)).collect::<Result<Value, Fault>>()).transpose()?
            }
            Kind::File => self.text(arg.name).map(contents).transpose()?.map(|text| json!(text)),
            Kind::Secret => Some(json!(self.text(arg.name).map_or_else(|| asked(arg), |text| Ok(text.to_owned()))?)),
            Kind::Away(_) => self.is(arg.name).then_some(Value::Null),
        })
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.matches.try_get_one::<String>(name).ok().flatten().map(String::as_str)
    }

    pub fn is(&self, name: &str) -> bool {
        self.matches.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or_default()
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.matches.try_get_one::<i64>(name).ok().flatten().copied()
    }

    fn page(&self, answer: &Value) -> String {
        match self.verb.shown {
            Shown::Card(fields) => card(answer, fields),
            Shown::Table(_) if items(answer, "items").is_empty() => "None.".to_owned(),
            Shown::Table(columns) => {
                let more = Some(text(answer, "next")).filter(|next| !next.is_empty());
                let more = more.map(|next| format!("\nmore: --after {next}")).unwrap_or_default();
                table(items(answer, "items"), columns) + &more
            }
            Shown::Said(words) => {
                let fill = |words: String, name: &str| {
                    words.replace(&format!("{{{name}}}"), self.text(name).unwrap_or_default())
                };
                names(self.verb.path).fold(words.to_owned(), fill)
            }
            Shown::Page(page) => page(answer, self),
        }
    }

    /// The operator has no account of its own, which the service cannot put in words of this line.
    fn failed(&self, fault: &Fault) -> Failure {
        let own = names(self.verb.path).any(|name| name == ACCOUNT) && self.text(ACCOUNT).is_none();
        match fault {
            Fault::Refused { status: StatusCode::NOT_FOUND, problem, .. }
                if own && !self.verb.path.starts_with('[') && text(problem, "detail").contains(OWN) =>
            {
                Failure("This key has no account of its own.\n  mend   Say --account NAME; `weir account list` has all names.".to_owned())
            }
            _ => Failure(fault.to_string()),
        }
    }
}

/// Lists of the interface: one of them is a list, too.
const LISTS: [&str; 3] = ["ips", "domains", "plans"];

/// `region=local,quantity=2`, as an object.
fn object(text: &str) -> Result<Value, Fault> {
    let mut made = Map::new();
    for field in text.split(',') {
        let Some((name, value)) = field.split_once('=') else {
            return Err(Fault::Line(format!(
                "“{field}” is no field: write it as name=value, with commas between fields"
            )));
        };
        let value = match value {
            "true" | "yes" => json!(true),
            "false" | "no" => json!(false),
            text => text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number)),
        };
        match made.get_mut(name) {
            Some(Value::Array(several)) => several.push(value),
            Some(_) => return Err(Fault::Line(format!("“{name}” stands there twice"))),
            None if LISTS.contains(&name) => drop(made.insert(name.to_owned(), json!([value]))),
            None => drop(made.insert(name.to_owned(), value)),
        }
    }
    Ok(Value::Object(made))
}

fn waiting() -> Result<tokio::runtime::Runtime, Fault> {
    runtime().map_err(|Failure(words)| Fault::Line(words))
}

fn contents(path: &str) -> Result<String, Fault> {
    let unreadable = |fault| Fault::Line(format!("{path} cannot be read: {fault}"));
    if path != "-" {
        return std::fs::read_to_string(path).map_err(unreadable);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

fn asked(arg: &Arg) -> Result<String, Fault> {
    if std::io::stdin().is_terminal() {
        eprintln!("{}: type it and press Enter (it is shown)", arg.words);
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|fault| Fault::Line(fault.to_string()))?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(Fault::Line(format!("--{} is not given, and standard input is empty", arg.name)));
    }
    Ok(line.to_owned())
}
