//! How does a test fill a house with tenants? By calls, as an operator does.

use super::house::House;
use super::submitter::Smtp;
use super::{Message, until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::net::IpAddr;

/// An account with a key that may do everything in it.
#[derive(Clone)]
pub struct Tenant {
    pub id: String,
    pub key: String,
}

impl Tenant {
    /// `/accounts/ID/…`
    pub fn at(&self, rest: &str) -> String {
        format!("/accounts/{}/{rest}", self.id)
    }
}

/// A user name and a password.
pub struct Login {
    /// Of the credential.
    pub id: String,
    pub user: String,
    pub password: String,
}

impl Login {
    pub fn of(shown: &Value) -> Login {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Login { id: text(&shown["credential"]["id"]), user: text(&shown["user"]), password: text(&shown["password"]) }
    }

    pub fn sign_in(&self) -> String {
        format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{}\0{}", self.user, self.password)))
    }
}

impl House {
    /// As the operator; the call must succeed.
    pub fn operate(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask(method, path, &self.operator, body)
    }

    /// Below `/api/v1`; the call must succeed.
    pub fn ask(&self, method: &str, path: &str, key: &str, body: &Value) -> Value {
        let answer = self.call(method, &format!("/api/v1{path}"), key, body);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {text}", answer.status);
        answer.json()
    }

    /// The status and the code of the problem of a call that must be refused.
    pub fn refused(&self, method: &str, path: &str, key: &str, body: &Value) -> (u16, String) {
        let answer = self.call(method, &format!("/api/v1{path}"), key, body);
        assert!(answer.status >= 400, "{method} {path}: {} {}", answer.status, answer.json());
        (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
    }

    /// An account that may send as anybody.
    pub fn tenant(&self, name: &str, plan: &str) -> Tenant {
        let account =
            self.operate("POST", "/accounts", &json!({ "name": name, "plan": plan, "standing": "production" }));
        let id = account["id"].as_str().unwrap().to_owned();
        self.operate("PATCH", &format!("/accounts/{id}"), &json!({ "senders": "any" }));
        let key = self.key(&id, json!({ "name": "all", "scopes": ["send", "read", "manage"] }));
        Tenant { id, key: key["key"].as_str().unwrap().to_owned() }
    }

    /// What the answer shows, the secret too.
    #[allow(clippy::needless_pass_by_value)] // It is written in the call.
    pub fn key(&self, account: &str, new: Value) -> Value {
        self.operate("POST", &format!("/accounts/{account}/credentials"), &new)
    }

    pub fn login(&self, tenant: &Tenant) -> Login {
        Login::of(&self.key(&tenant.id, json!({ "name": "mailer", "kind": "smtp", "scopes": ["send"] })))
    }

    /// IPs into the shared pool, and nothing else there: what this machine's own best address is, a test does not know.
    pub fn share(&self, ips: &[IpAddr]) {
        let shared = self.operate("GET", "/ips?state=shared", &Value::Null);
        for ip in shared["items"].as_array().unwrap() {
            let path = format!("/ips/{}/orders", ip["address"].as_str().unwrap());
            self.operate("POST", &path, &json!({ "order": "unshare" }));
            self.operate("POST", &path, &json!({ "order": "out-of-service", "reason": "not of this test" }));
        }
        self.add_ips(ips, Some("shared"));
    }

    pub fn add_ips(&self, ips: &[IpAddr], shared_pool: Option<&str>) {
        if !ips.is_empty() {
            self.operate(
                "POST",
                "/ips",
                &json!({ "addresses": ips, "shared_pool": shared_pool, "ehlo": "out-{ip}.weir.test" }),
            );
        }
    }

    /// IPs that have warmed up, so that what leaves by them does not hang on the hour of the day.
    pub fn grant(&self, tenant: &Tenant, ips: &[IpAddr], pool: Option<&str>) {
        self.grant_new(tenant, ips, pool);
        for ip in ips {
            self.operate("POST", &format!("/ips/{ip}/warm-up/orders"), &json!({ "order": "done" }));
        }
    }

    /// Without looking at names, which loopback has none of.
    pub fn grant_new(&self, tenant: &Tenant, ips: &[IpAddr], pool: Option<&str>) {
        self.operate("PUT", "/settings/checks_required", &json!({ "value": 0 }));
        self.add_ips(ips, None);
        self.operate("POST", &tenant.at("grants"), &json!({ "ips": ips, "pool": pool }));
    }

    /// The pool's id.
    pub fn new_pool(&self, tenant: &Tenant, name: &str) -> String {
        let pool = self.ask("POST", &tenant.at("pools"), &tenant.key, &json!({ "name": name }));
        pool["id"].as_str().unwrap().to_owned()
    }

    pub fn wait_ip(&self, ip: IpAddr, state: &str) {
        let path = format!("/ips/{ip}");
        until(&format!("{ip} is {state}"), || {
            (self.operate("GET", &path, &Value::Null)["state"] == state).then_some(())
        });
    }

    /// A message as JSON, with what else it says; its id.
    pub fn send(&self, key: &str, to: &str, more: Value) -> String {
        let id = self.ask("POST", "/messages", key, &submission(to, more))["id"].clone();
        id.as_str().unwrap().to_owned()
    }

    /// Why it is refused.
    pub fn send_refused(&self, key: &str, to: &str, more: Value) -> (u16, String) {
        self.refused("POST", "/messages", key, &submission(to, more))
    }

    /// A session that is signed in.
    pub fn smtp_as(&self, login: &Login) -> Smtp {
        let mut smtp = self.smtp();
        smtp.expect(&login.sign_in(), 235);
        smtp
    }
}

fn submission(to: &str, more: Value) -> Value {
    let mut body = json!({ "from": "ann@shop.test", "to": to, "subject": "Hello", "text": "Hello.\n" });
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    body
}

/// With the JSON header of SparkPost's SMTP.
pub fn with_pool(pool: &str) -> Vec<u8> {
    Message::new("by header").field(&format!("X-MSYS-API: {{\"options\":{{\"ip_pool\":\"{pool}\"}}}}")).body("Hello.")
}
