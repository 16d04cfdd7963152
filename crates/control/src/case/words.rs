//! What does the service itself say in a case, in the language that it was opened in? (R7.4)

use engine::case::{CaseKind, CaseState};
use engine::time::Timestamp;
use std::net::IpAddr;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    #[default]
    English,
    Japanese,
}

impl Language {
    /// As ISO 639-1 has it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Japanese => "ja",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<Language> {
        [Language::English, Language::Japanese].into_iter().find(|language| language.code() == code)
    }
}

/// What a case is about.
fn subject(kind: CaseKind, language: Language) -> &'static str {
    match (kind, language) {
        (CaseKind::DedicatedIps, Language::English) => "dedicated IPs",
        (CaseKind::Relinquish, Language::English) => "giving back dedicated IPs",
        (CaseKind::ManagedPool, Language::English) => "a managed pool",
        (CaseKind::Quota, Language::English) => "higher quotas",
        (CaseKind::LeaveSandbox, Language::English) => "leaving the sandbox",
        (CaseKind::DedicatedIps, Language::Japanese) => "専用 IP アドレス",
        (CaseKind::Relinquish, Language::Japanese) => "専用 IP アドレスの返却",
        (CaseKind::ManagedPool, Language::Japanese) => "マネージドプール",
        (CaseKind::Quota, Language::Japanese) => "送信クォータの引き上げ",
        (CaseKind::LeaveSandbox, Language::Japanese) => "サンドボックスの解除",
    }
}

/// The same for who answers it.
pub(super) fn heading(kind: CaseKind, state: CaseState) -> String {
    format!("a case for {}, {}", subject(kind, Language::English), state.code())
}

/// What it is about and how it stands, as the subject of a letter.
pub(super) fn title(kind: CaseKind, state: CaseState, language: Language) -> String {
    let what = subject(kind, language);
    let stands = match (state, language) {
        (CaseState::Open, Language::English) => "open",
        (CaseState::Waiting, Language::English) => "waiting for your answer",
        (CaseState::Granted, Language::English) => "granted",
        (CaseState::PartlyGranted, Language::English) => "granted in part",
        (CaseState::Denied, Language::English) => "denied",
        (CaseState::Confirmed, Language::English) => "confirmed",
        (CaseState::Closed, Language::English) => "closed",
        (CaseState::Open, Language::Japanese) => "受付済み",
        (CaseState::Waiting, Language::Japanese) => "ご回答待ち",
        (CaseState::Granted, Language::Japanese) => "承認",
        (CaseState::PartlyGranted, Language::Japanese) => "一部承認",
        (CaseState::Denied, Language::Japanese) => "見送り",
        (CaseState::Confirmed, Language::Japanese) => "確認済み",
        (CaseState::Closed, Language::Japanese) => "終了",
    };
    match language {
        Language::English => format!("Your request for {what}: {stands}"),
        Language::Japanese => format!("{what}のリクエスト: {stands}"),
    }
}

/// Something that is said.
pub(crate) enum Says<'a> {
    Received {
        kind: CaseKind,
        due_at: Timestamp,
    },
    /// R3.2
    Working {
        region: &'a str,
        per_second: u32,
        per_ip: u32,
        quantity: u32,
    },
    /// R3.8: what is missing, in the words of each point.
    Missing {
        points: &'a [String],
    },
    ConfirmRelease {
        ips: &'a [IpAddr],
        until: Timestamp,
    },
    Leased {
        region: &'a str,
        pool: &'a str,
        ips: &'a [IpAddr],
    },
    /// So many more come when there are some.
    WaitsForIps {
        region: &'a str,
        quantity: u32,
    },
    QuotaSet {
        region: &'a str,
        per_day: i64,
        per_second: i64,
    },
    PoolMade {
        pool: &'a str,
    },
    InProduction,
    Reason {
        reason: &'a str,
    },
    WouldChange {
        what: &'a str,
    },
    Released {
        ips: &'a [IpAddr],
    },
    Closed,
    Reopened {
        due_at: Timestamp,
    },
    WaitEnded {
        region: &'a str,
        quantity: i64,
    },
}

impl Says<'_> {
    pub fn words(&self, language: Language) -> String {
        match language {
            Language::English => self.english(),
            Language::Japanese => self.japanese(),
        }
    }

    fn english(&self) -> String {
        match self {
            Says::Received { kind, due_at } => {
                let what = subject(*kind, Language::English);
                format!("Your request for {what} has arrived. You get a first answer by {due_at}.")
            }
            Says::Working { region, per_second, per_ip, quantity } => format!(
                "In {region}: {per_second} messages a second / {per_ip} that an IP carries once it is warm, rounded up: {quantity}."
            ),
            Says::Missing { points } => format!("Missing for this: {}", points.join(" ")),
            Says::ConfirmRelease { ips, until } => format!(
                "Please confirm that you give back {}. This cannot be undone: the reputation built there is lost to you, and you may not get \
                 the same again. What is queued still leaves from there. The charge ends with the day of your confirmation. Without one, \
                 nothing happens; it can be confirmed until {until}.",
                listed(ips)
            ),
            Says::Leased { region, pool, ips } => format!(
                "Leased to you in {region}, in the pool {pool}: {}. They warm up by themselves; see their warm-up for how far they are.",
                listed(ips)
            ),
            Says::WaitsForIps { region, quantity } => format!(
                "{quantity} more in {region} follow as soon as there are IPs that can be handed out. You need not ask again."
            ),
            Says::QuotaSet { region, per_day, per_second } => {
                format!("Your quotas in {region} are now {per_day} recipients in 24 hours and {per_second} a second.")
            }
            Says::PoolMade { pool } => format!(
                "Your managed pool is called {pool}: send with it as with any pool. IPs come when its volume warrants them; until then its \
                 mail leaves from shared ones."
            ),
            Says::InProduction => "Your account may send to any recipient now.".into(),
            Says::Reason { reason } => format!("The reason: {reason}"),
            Says::WouldChange { what } => format!("What would change this answer: {what}"),
            Says::Released { ips } => format!("{} given back. What is queued still leaves from there.", listed(ips)),
            Says::Closed => "This case is closed.".into(),
            Says::Reopened { due_at } => format!("This case is open again. You get an answer by {due_at}."),
            Says::WaitEnded { region, quantity } => {
                format!(
                    "{quantity} more in {region} are waited for no longer. Open another case if you want them after all."
                )
            }
        }
    }

    fn japanese(&self) -> String {
        match self {
            Says::Received { kind, due_at } => {
                let what = subject(*kind, Language::Japanese);
                format!("{what}のリクエストを受け付けました。{due_at} までに最初の回答をお送りします。")
            }
            Says::Working { region, per_second, per_ip, quantity } => format!(
                "{region}: 毎秒 {per_second} 通を、ウォームアップ済みの IP 1 個が毎秒送れる {per_ip} 通で割り、切り上げて {quantity} 個です。"
            ),
            Says::Missing { points } => format!("次の要件を満たしていません: {}", points.join(" ")),
            Says::ConfirmRelease { ips, until } => format!(
                "{} を返却することを確認してください。返却は取り消せません。築いたレピュテーションは失われ、同じアドレスを再び取得できるとは限りません。\
                 キューにあるメールは引き続きそこから送信されます。料金は確認した日までです。確認がなければ何も行われません。確認の期限は {until} です。",
                listed(ips)
            ),
            Says::Leased { region, pool, ips } => format!(
                "{region} でプール {pool} に割り当てました: {}。ウォームアップは自動で進みます。進み具合はウォームアップの画面で確認できます。",
                listed(ips)
            ),
            Says::WaitsForIps { region, quantity } => {
                format!(
                    "{region} の残り {quantity} 個は、割り当て可能な IP が用意でき次第お渡しします。再度のリクエストは不要です。"
                )
            }
            Says::QuotaSet { region, per_day, per_second } => {
                format!(
                    "{region} の送信クォータは、24 時間あたり {per_day} 受信者、毎秒 {per_second} 受信者になりました。"
                )
            }
            Says::PoolMade { pool } => format!(
                "マネージドプールの名前は {pool} です。ほかのプールと同じように指定して送信できます。送信量が十分になると IP が追加され、それまでは共有 IP から送信されます。"
            ),
            Says::InProduction => "アカウントは任意の受信者に送信できるようになりました。".into(),
            Says::Reason { reason } => format!("理由: {reason}"),
            Says::WouldChange { what } => format!("回答が変わる条件: {what}"),
            Says::Released { ips } => {
                format!("{} を返却しました。キューにあるメールは引き続きそこから送信されます。", listed(ips))
            }
            Says::Closed => "このケースは終了しました。".into(),
            Says::Reopened { due_at } => format!("このケースを再開しました。{due_at} までに回答をお送りします。"),
            Says::WaitEnded { region, quantity } => format!(
                "{region} の残り {quantity} 個の割り当て待ちを終了しました。必要になった場合は新しいケースを作成してください。"
            ),
        }
    }
}

fn listed(ips: &[IpAddr]) -> String {
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
