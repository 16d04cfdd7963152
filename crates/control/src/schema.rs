//! What does the database hold, and what does it refuse by itself?
//!
//! One list of steps; a database that is behind goes through those it lacks, each in a transaction of its own. A step that has been
//! published never changes. What stands in braces is what the engines write differently.

use crate::store::{Engine, Location, Store, StoreFault};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};

struct Step {
    both: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

/// Two lists, that grow apart: on PostgreSQL both are in one database.
struct Plan {
    /// How the table is made that says how far the list is taken.
    made: &'static str,
    found: &'static str,
    noted: &'static str,
    steps: &'static [Step],
}

const TENANTS_PLAN: Plan = Plan {
    made: "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL, taken_at BIGINT)",
    found: "SELECT COALESCE(MAX(version), 0) FROM schema_version",
    noted: "INSERT INTO schema_version (version) VALUES ($1)",
    steps: STEPS,
};

const ARCHIVE_PLAN: Plan = Plan {
    made: "CREATE TABLE IF NOT EXISTS archive_version (version BIGINT NOT NULL)",
    found: "SELECT COALESCE(MAX(version), 0) FROM archive_version",
    noted: "INSERT INTO archive_version (version) VALUES ($1)",
    steps: ARCHIVE_STEPS,
};

const STEPS: &[Step] = &[
    Step { both: TENANTS, sqlite: GUARDS_SQLITE, postgres: GUARDS_POSTGRES },
    Step { both: TRACKING, sqlite: "", postgres: "" },
    Step { both: WEBHOOKS, sqlite: "", postgres: "" },
    Step { both: SUPPRESSION, sqlite: "", postgres: "" },
    Step { both: UNSUBSCRIBE, sqlite: "", postgres: "" },
    Step { both: DOUBT, sqlite: "", postgres: "" },
    Step { both: WARM_UP, sqlite: "", postgres: "" },
    Step { both: INCIDENT, sqlite: "", postgres: "" },
    Step { both: TIER, sqlite: "", postgres: "" },
    Step { both: SCALING, sqlite: "", postgres: "" },
    Step { both: SIGNAL, sqlite: "", postgres: "" },
    Step { both: RELAY, sqlite: "", postgres: "" },
    Step { both: CASES, sqlite: "", postgres: "" },
    Step { both: NOTICES, sqlite: "", postgres: "" },
    Step { both: CHARGES, sqlite: CHARGES_SQLITE, postgres: CHARGES_POSTGRES },
    Step { both: DRIVES, sqlite: "", postgres: "" },
];

const DRIVES: &str = "
-- A part of a set's mail takes another pool. Names stay when what they named is gone.
CREATE TABLE test_drive (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    of_set TEXT NOT NULL,
    set_name TEXT NOT NULL,
    pool TEXT NOT NULL,
    pool_name TEXT NOT NULL,
    share BIGINT NOT NULL CHECK (share BETWEEN 0 AND 10000),
    step BIGINT NOT NULL,
    guarded BIGINT NOT NULL CHECK (guarded IN (0, 1)),
    state TEXT NOT NULL,
    reason TEXT,
    started_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    ended_at BIGINT,
    revision BIGINT NOT NULL,
    -- The day on which the share grew last.
    grown_on BIGINT NOT NULL,
    salt BIGINT NOT NULL
);
CREATE UNIQUE INDEX test_drive_running ON test_drive (of_set) WHERE ended_at IS NULL;
CREATE INDEX test_drive_account ON test_drive (account, id);
";

const CHARGES: &str = "
-- What something costs from a day on. Empty: on every plan, in every region.
CREATE TABLE price (
    item TEXT NOT NULL,
    plan TEXT NOT NULL,
    region TEXT NOT NULL,
    from_day BIGINT NOT NULL,
    rate TEXT NOT NULL,
    PRIMARY KEY (item, plan, region, from_day)
);
-- What was a setting holds on.
INSERT INTO price (item, plan, region, from_day, rate)
    SELECT CASE name WHEN 'purchase_price_cents' THEN 'purchase' WHEN 'standard_price_cents' THEN 'standard' ELSE 'managed-ip' END,
        '', '', 1, '{\"month\":{\"cents\":' || value || '}}'
    FROM setting WHERE name IN ('purchase_price_cents', 'standard_price_cents', 'managed_price_cents');
DELETE FROM setting WHERE name IN ('purchase_price_cents', 'standard_price_cents', 'managed_price_cents');
-- What a lease is charged as; the managed pool that it was leased for; what was agreed for it alone.
ALTER TABLE lease ADD COLUMN item TEXT NOT NULL DEFAULT 'standard';
ALTER TABLE lease ADD COLUMN pool TEXT;
ALTER TABLE lease ADD COLUMN pool_name TEXT;
ALTER TABLE lease ADD COLUMN agreed_cents BIGINT CHECK (agreed_cents >= 0);
UPDATE lease SET item = 'purchase' WHERE origin = 'purchase';
UPDATE lease SET item = 'managed-ip',
    pool = (SELECT p.id FROM ip i JOIN pool p ON p.id = i.pool WHERE i.address = lease.ip),
    pool_name = (SELECT p.name FROM ip i JOIN pool p ON p.id = i.pool WHERE i.address = lease.ip)
    WHERE ended_at IS NULL AND EXISTS (
        SELECT 1 FROM ip i JOIN pool p ON p.id = i.pool WHERE i.address = lease.ip AND p.kind = 'managed'
    );
CREATE INDEX lease_ended ON lease (ended_at, account);
-- From which day on an account was on which plan.
CREATE TABLE plan_since (
    account TEXT NOT NULL REFERENCES account (id),
    from_day BIGINT NOT NULL,
    plan TEXT NOT NULL,
    PRIMARY KEY (account, from_day)
);
INSERT INTO plan_since (account, from_day, plan) SELECT id, 0, plan FROM account;
-- Who bills (empty), and whom: as it stands on invoices.
CREATE TABLE billing (
    account TEXT PRIMARY KEY,
    details TEXT NOT NULL
);
-- Invoices and credit notes, in one row of numbers.
CREATE TABLE invoice (
    number BIGINT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL REFERENCES account (id),
    month BIGINT NOT NULL,
    -- Of a credit note: the invoice that it corrects.
    corrects BIGINT REFERENCES invoice (number),
    total_cents BIGINT NOT NULL,
    -- All that stands on it.
    paper TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    paid_at BIGINT,
    paid_by TEXT
);
CREATE UNIQUE INDEX invoice_once ON invoice (account, month) WHERE corrects IS NULL;
CREATE INDEX invoice_account ON invoice (account, number);
CREATE INDEX invoice_corrects ON invoice (corrects) WHERE corrects IS NOT NULL;
-- Months that were invoiced, for everybody.
CREATE TABLE month_closed (
    month BIGINT PRIMARY KEY,
    closed_at BIGINT NOT NULL
);
";

const CHARGES_SQLITE: &str = "
CREATE TRIGGER invoice_stays BEFORE DELETE ON invoice
BEGIN SELECT RAISE(ABORT, 'an invoice stays'); END;
CREATE TRIGGER invoice_as_made BEFORE UPDATE OF number, id, account, month, corrects, total_cents, paper, made_at ON invoice
BEGIN SELECT RAISE(ABORT, 'an invoice is corrected by a credit note'); END;
CREATE TRIGGER invoice_next BEFORE INSERT ON invoice
WHEN NEW.number <> (SELECT COALESCE(MAX(number), 0) + 1 FROM invoice)
BEGIN SELECT RAISE(ABORT, 'invoices are numbered without gaps'); END;
";

const CHARGES_POSTGRES: &str = "
CREATE FUNCTION weir_invoice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.number <> (SELECT COALESCE(MAX(number), 0) + 1 FROM invoice) THEN
            RAISE EXCEPTION 'invoices are numbered without gaps';
        END IF;
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'an invoice stays';
    END IF;
    IF ROW(NEW.number, NEW.id, NEW.account, NEW.month, NEW.corrects, NEW.total_cents, NEW.paper, NEW.made_at)
        IS DISTINCT FROM ROW(OLD.number, OLD.id, OLD.account, OLD.month, OLD.corrects, OLD.total_cents, OLD.paper, OLD.made_at) THEN
        RAISE EXCEPTION 'an invoice is corrected by a credit note';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER invoice_stays BEFORE INSERT OR UPDATE OR DELETE ON invoice FOR EACH ROW EXECUTE FUNCTION weir_invoice();
";

const NOTICES: &str = "
-- The due time that operators were told was missed.
ALTER TABLE cases ADD COLUMN overdue_told BIGINT NOT NULL DEFAULT 0;
-- With which weight it was told of.
ALTER TABLE incident ADD COLUMN told TEXT NOT NULL DEFAULT '';
-- Which kinds there are, the program says.
DROP INDEX incident_open;
ALTER TABLE incident ADD COLUMN what TEXT NOT NULL DEFAULT '';
UPDATE incident SET what = kind;
ALTER TABLE incident DROP COLUMN kind;
ALTER TABLE incident RENAME COLUMN what TO kind;
CREATE UNIQUE INDEX incident_open ON incident (subject, provider, kind) WHERE closed_at IS NULL;
";

const CASES: &str = "
CREATE TABLE cases (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    language TEXT NOT NULL,
    -- What is asked for; what was known when it was; what was decided.
    request TEXT NOT NULL,
    figures TEXT NOT NULL,
    decision TEXT,
    release TEXT REFERENCES release_request (id),
    opened_at BIGINT NOT NULL,
    -- Of the next answer; none: nobody waits for one.
    due_at BIGINT,
    answered_at BIGINT,
    changed_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
CREATE INDEX cases_account ON cases (account, id);
CREATE INDEX cases_due ON cases (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE case_entry (
    id {serial},
    of_case TEXT NOT NULL REFERENCES cases (id),
    at BIGINT NOT NULL,
    party TEXT NOT NULL CHECK (party IN ('customer', 'operator', 'service')),
    name TEXT NOT NULL,
    act TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX case_entry_of ON case_entry (of_case, id);
CREATE TABLE case_attachment (
    id TEXT PRIMARY KEY,
    of_case TEXT NOT NULL REFERENCES cases (id),
    entry BIGINT NOT NULL,
    name TEXT NOT NULL,
    octets {octets} NOT NULL
);
CREATE INDEX case_attachment_of ON case_attachment (of_case, id);
-- What was granted and could not be leased yet; served in the order of its numbers.
CREATE TABLE case_wait (
    id {serial},
    of_case TEXT NOT NULL REFERENCES cases (id),
    region TEXT NOT NULL,
    quantity BIGINT NOT NULL CHECK (quantity > 0),
    since BIGINT NOT NULL
);
CREATE TABLE policy (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    is_on BIGINT NOT NULL CHECK (is_on IN (0, 1)),
    criteria TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
";

// A check of a column cannot be changed, so that the column is made anew.
const RELAY: &str = "
CREATE TABLE relay (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    port BIGINT NOT NULL,
    security TEXT NOT NULL CHECK (security IN ('start-tls', 'tls', 'clear')),
    user_name TEXT,
    password {octets},
    -- Of its address among the IPs; never given again.
    number BIGINT NOT NULL UNIQUE,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (account, name),
    CHECK ((user_name IS NULL) = (password IS NULL))
);
CREATE TABLE relay_number (last BIGINT NOT NULL);
INSERT INTO relay_number (last) VALUES (0);
ALTER TABLE pool ADD COLUMN relay TEXT REFERENCES relay (id);
CREATE INDEX pool_relay ON pool (relay) WHERE relay IS NOT NULL;
ALTER TABLE pool ADD COLUMN leaves TEXT NOT NULL DEFAULT 'shared' CHECK (leaves IN ('shared', 'relay', 'never'));
UPDATE pool SET leaves = leaving;
ALTER TABLE pool DROP COLUMN leaving;
ALTER TABLE pool RENAME COLUMN leaves TO leaving;
ALTER TABLE pool ADD COLUMN active_within BIGINT CHECK (active_within BETWEEN 1 AND 365);
";

const SIGNAL: &str = "
CREATE TABLE signal (
    provider TEXT NOT NULL,
    -- An address or a domain; also of others than ours.
    subject TEXT NOT NULL,
    -- Counted from 1970.
    day BIGINT NOT NULL,
    -- In the provider's word.
    verdict TEXT,
    -- In millionths, and whether it is only said to be less.
    complaints BIGINT,
    complaints_below BIGINT NOT NULL CHECK (complaints_below IN (0, 1)),
    recipients BIGINT,
    traps BIGINT,
    imported_at BIGINT NOT NULL,
    PRIMARY KEY (provider, subject, day)
);
CREATE INDEX signal_subject ON signal (subject, day);
CREATE INDEX signal_day ON signal (day);
";

const SCALING: &str = "
-- Of a managed pool: how many IPs it may have, and whether the operator is asked first.
ALTER TABLE pool ADD COLUMN ips_min BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pool ADD COLUMN ips_max BIGINT NOT NULL DEFAULT 10;
ALTER TABLE pool ADD COLUMN asks BIGINT NOT NULL DEFAULT 0 CHECK (asks IN (0, 1));
-- Days from 1970: when it was decided about it last, and when there were more IPs for the last time.
ALTER TABLE pool ADD COLUMN scaled_on BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pool ADD COLUMN grown_on BIGINT NOT NULL DEFAULT 0;

-- Decisions outlive their pool.
CREATE TABLE scaling (
    id {serial},
    pool TEXT NOT NULL,
    at BIGINT NOT NULL,
    change BIGINT NOT NULL,
    ips BIGINT NOT NULL,
    needed BIGINT NOT NULL,
    provider TEXT,
    busy_day BIGINT NOT NULL,
    per_ip BIGINT NOT NULL,
    words TEXT NOT NULL,
    outcome TEXT NOT NULL,
    said TEXT,
    decided_by TEXT
);
CREATE INDEX scaling_pool ON scaling (pool, id);
CREATE INDEX scaling_proposed ON scaling (outcome) WHERE outcome = 'proposed';
";

/// Senders that are there already have shown what they are.
const TIER: &str = "
ALTER TABLE pool ADD COLUMN tier TEXT CHECK (tier IS NULL OR (account IS NULL AND is_default = 0));
CREATE UNIQUE INDEX pool_tier ON pool (region, tier) WHERE tier IS NOT NULL;
ALTER TABLE account ADD COLUMN tier TEXT NOT NULL DEFAULT 'standard';
ALTER TABLE account ADD COLUMN tier_since BIGINT NOT NULL DEFAULT 0;
-- Why the operator put it there; empty: it goes by what becomes of its mail.
ALTER TABLE account ADD COLUMN tier_reason TEXT;
-- Days in a row that it did well, and the last of them, counted from 1970.
ALTER TABLE account ADD COLUMN tier_well_days BIGINT NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN tier_well_day BIGINT NOT NULL DEFAULT 0;

CREATE TABLE tier_move (
    id {serial},
    account TEXT NOT NULL REFERENCES account (id),
    at BIGINT NOT NULL,
    was TEXT NOT NULL,
    became TEXT NOT NULL,
    words TEXT NOT NULL,
    actor TEXT NOT NULL
);
CREATE INDEX tier_move_account ON tier_move (account, id);
";

const INCIDENT: &str = "
CREATE TABLE incident (
    number {serial},
    id TEXT NOT NULL UNIQUE,
    -- Whose it is to know; empty: the operator's alone.
    account TEXT REFERENCES account (id),
    ip TEXT REFERENCES ip (address),
    -- The account, the IP or a domain.
    subject TEXT NOT NULL,
    -- Empty: of all of them.
    provider TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('bounces', 'complaints', 'listed', 'suspended', 'signal')),
    weight TEXT NOT NULL CHECK (weight IN ('review', 'stopped')),
    words TEXT NOT NULL,
    mend TEXT NOT NULL,
    link TEXT,
    evidence TEXT NOT NULL,
    opened_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    until_at BIGINT,
    closed_at BIGINT,
    closed_because TEXT
);
CREATE UNIQUE INDEX incident_open ON incident (subject, provider, kind) WHERE closed_at IS NULL;
CREATE INDEX incident_account ON incident (account, number) WHERE account IS NOT NULL;

-- Figures from before do not pause it: the operator has looked at them.
ALTER TABLE account ADD COLUMN judged_from BIGINT NOT NULL DEFAULT 0;
";

const WARM_UP: &str = "
ALTER TABLE account ADD COLUMN warms_up BIGINT NOT NULL DEFAULT 1 CHECK (warms_up IN (0, 1));
ALTER TABLE pool ADD COLUMN leaving TEXT NOT NULL DEFAULT 'shared' CHECK (leaving IN ('shared', 'never'));
ALTER TABLE ip ADD COLUMN warm_up TEXT;
ALTER TABLE ip ADD COLUMN warm_up_ordered TEXT;
ALTER TABLE ip ADD COLUMN warm_up_ordered_at BIGINT;
";

const DOUBT: &str = "
ALTER TABLE doubt ADD COLUMN delivered_message TEXT;
ALTER TABLE doubt ADD COLUMN delivered_at BIGINT;
CREATE INDEX suppression_ended_of ON suppression_ended (account, address, at);
";

const UNSUBSCRIBE: &str = "
ALTER TABLE configuration_set ADD COLUMN unsubscribe BIGINT NOT NULL DEFAULT 0 CHECK (unsubscribe IN (0, 1));
";

const TRACKING: &str = "
ALTER TABLE configuration_set ADD COLUMN tracks_opens BIGINT NOT NULL DEFAULT 0 CHECK (tracks_opens IN (0, 1));
ALTER TABLE configuration_set ADD COLUMN tracks_clicks BIGINT NOT NULL DEFAULT 0 CHECK (tracks_clicks IN (0, 1));
";

const WEBHOOKS: &str = "
CREATE TABLE webhook (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    subaccount TEXT,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    kinds TEXT NOT NULL,
    events_max BIGINT NOT NULL,
    wait_ms BIGINT NOT NULL,
    paused TEXT,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (account, name)
);

CREATE TABLE webhook_secret (
    id TEXT PRIMARY KEY,
    webhook TEXT NOT NULL REFERENCES webhook (id),
    sealed {octets} NOT NULL,
    created_at BIGINT NOT NULL,
    ends_at BIGINT
);
CREATE INDEX webhook_secret_webhook ON webhook_secret (webhook);
";

/// Nothing ever stood in the table that goes.
const SUPPRESSION: &str = "
DROP TABLE suppression;

CREATE TABLE suppressed (
    account TEXT NOT NULL REFERENCES account (id),
    address TEXT NOT NULL,
    -- Empty: all mail of the account.
    stream TEXT NOT NULL,
    domain TEXT NOT NULL,
    reason TEXT NOT NULL CHECK (reason IN ('bounce', 'complaint', 'unsubscribe', 'manual')),
    message TEXT,
    detail TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    number BIGINT NOT NULL,
    PRIMARY KEY (account, address, stream)
);
CREATE UNIQUE INDEX suppressed_number ON suppressed (number);
CREATE INDEX suppressed_domain ON suppressed (account, domain, address);
CREATE INDEX suppressed_expiry ON suppressed (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE suppression_ended (
    number BIGINT PRIMARY KEY,
    account TEXT NOT NULL,
    address TEXT NOT NULL,
    stream TEXT NOT NULL,
    at BIGINT NOT NULL
);

-- The number of the last change, and the last one of those that are not remembered any more.
CREATE TABLE suppression_number (
    only_one BIGINT PRIMARY KEY CHECK (only_one = 1),
    number BIGINT NOT NULL,
    forgotten BIGINT NOT NULL
);
INSERT INTO suppression_number (only_one, number, forgotten) VALUES (1, 0, 0);

CREATE TABLE doubt (
    account TEXT NOT NULL,
    address TEXT NOT NULL,
    kind TEXT NOT NULL,
    messages BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    last_message TEXT NOT NULL,
    PRIMARY KEY (account, address)
);
";

const TENANTS: &str = "
CREATE TABLE region (
    id TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE node (
    id TEXT PRIMARY KEY,
    region TEXT NOT NULL REFERENCES region (id),
    name TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE account (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL CHECK (plan IN ('free', 'standard', 'enterprise')),
    standing TEXT NOT NULL CHECK (standing IN ('sandbox', 'production', 'paused')),
    standing_reason TEXT,
    senders TEXT NOT NULL CHECK (senders IN ('verified', 'any')),
    has_payment_method BIGINT NOT NULL CHECK (has_payment_method IN (0, 1)),
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE quota (
    account TEXT NOT NULL REFERENCES account (id),
    region TEXT NOT NULL REFERENCES region (id),
    per_day BIGINT NOT NULL CHECK (per_day >= 0),
    per_second BIGINT NOT NULL CHECK (per_second >= 0),
    PRIMARY KEY (account, region)
);

CREATE TABLE pool (
    id TEXT PRIMARY KEY,
    account TEXT REFERENCES account (id),
    region TEXT NOT NULL REFERENCES region (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('shared', 'standard', 'managed')),
    is_default BIGINT NOT NULL CHECK (is_default IN (0, 1)),
    overflow TEXT REFERENCES pool (id),
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    CHECK ((kind = 'shared') = (account IS NULL)),
    CHECK (overflow IS NULL OR overflow <> id)
);
CREATE UNIQUE INDEX pool_name ON pool (account, region, name) WHERE account IS NOT NULL;
CREATE UNIQUE INDEX pool_name_shared ON pool (region, name) WHERE account IS NULL;
CREATE UNIQUE INDEX pool_default ON pool (account, region) WHERE is_default = 1 AND account IS NOT NULL;
CREATE UNIQUE INDEX pool_default_shared ON pool (region) WHERE is_default = 1 AND account IS NULL;
CREATE INDEX pool_overflow ON pool (overflow) WHERE overflow IS NOT NULL;

CREATE TABLE subaccount (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    pool TEXT REFERENCES pool (id),
    sending BIGINT NOT NULL CHECK (sending IN (0, 1)),
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (account, name)
);
CREATE INDEX subaccount_pool ON subaccount (pool) WHERE pool IS NOT NULL;

CREATE TABLE configuration_set (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    pool TEXT REFERENCES pool (id),
    tls TEXT CHECK (tls IN ('if-offered', 'required')),
    lifetime_s BIGINT CHECK (lifetime_s > 0),
    suppression TEXT NOT NULL,
    tracking_host TEXT,
    destinations TEXT NOT NULL,
    sending BIGINT NOT NULL CHECK (sending IN (0, 1)),
    reputation BIGINT NOT NULL CHECK (reputation IN (0, 1)),
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (account, name)
);
CREATE INDEX configuration_set_pool ON configuration_set (pool) WHERE pool IS NOT NULL;

CREATE TABLE ip (
    address TEXT PRIMARY KEY,
    region TEXT NOT NULL REFERENCES region (id),
    node TEXT REFERENCES node (id),
    bind TEXT NOT NULL,
    ehlo TEXT NOT NULL,
    hop TEXT,
    state TEXT NOT NULL CHECK (state IN ('available', 'leased', 'shared', 'draining', 'resting', 'out-of-service')),
    state_since BIGINT NOT NULL,
    state_until BIGINT,
    -- One column, so that an IP is in one pool at most.
    pool TEXT REFERENCES pool (id),
    -- Why it takes no new mail although it could; empty while it does.
    rotation_reason TEXT,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    CHECK (pool IS NULL OR state IN ('leased', 'shared'))
);
CREATE INDEX ip_pool ON ip (pool) WHERE pool IS NOT NULL;
CREATE INDEX ip_state ON ip (region, state, state_since);

CREATE TABLE ip_history (
    id {serial},
    ip TEXT NOT NULL REFERENCES ip (address),
    at BIGINT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL
);
CREATE INDEX ip_history_ip ON ip_history (ip, id);

CREATE TABLE ip_check (
    ip TEXT NOT NULL REFERENCES ip (address),
    name TEXT NOT NULL,
    at BIGINT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('good', 'bad', 'unknown', 'void')),
    words TEXT NOT NULL,
    PRIMARY KEY (ip, name)
);

CREATE TABLE lease (
    id TEXT PRIMARY KEY,
    ip TEXT NOT NULL REFERENCES ip (address),
    account TEXT NOT NULL REFERENCES account (id),
    origin TEXT NOT NULL CHECK (origin IN ('purchase', 'grant')),
    price_cents BIGINT NOT NULL CHECK (price_cents >= 0),
    started_at BIGINT NOT NULL,
    ended_at BIGINT CHECK (ended_at >= started_at)
);
CREATE UNIQUE INDEX lease_open ON lease (ip) WHERE ended_at IS NULL;
CREATE INDEX lease_account ON lease (account, id);
CREATE INDEX lease_ip ON lease (ip, started_at);

CREATE TABLE release_request (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    leases TEXT NOT NULL,
    although_empty BIGINT NOT NULL CHECK (although_empty IN (0, 1)),
    digest {octets} NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    confirmed_at BIGINT
);

CREATE TABLE credential (
    id TEXT PRIMARY KEY,
    account TEXT REFERENCES account (id),
    subaccount TEXT REFERENCES subaccount (id),
    kind TEXT NOT NULL CHECK (kind IN ('api', 'aws', 'smtp')),
    name TEXT NOT NULL,
    login TEXT UNIQUE,
    scopes TEXT NOT NULL,
    networks TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    CHECK ((kind = 'api') = (login IS NULL)),
    CHECK (account IS NOT NULL OR kind = 'api')
);
CREATE INDEX credential_account ON credential (account, id);

-- Two for one credential while one takes the place of the other.
CREATE TABLE credential_secret (
    id TEXT PRIMARY KEY,
    credential TEXT NOT NULL REFERENCES credential (id),
    digest {octets} NOT NULL UNIQUE,
    -- Where the secret itself is needed: signatures are checked with it, passwords derived from it.
    sealed {octets},
    created_at BIGINT NOT NULL,
    until BIGINT
);
CREATE INDEX credential_secret_of ON credential_secret (credential);

CREATE TABLE domain (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    token TEXT NOT NULL,
    verified_at BIGINT,
    verified_by TEXT CHECK (verified_by IN ('dns', 'operator')),
    -- Since when each check in a row has found the proof gone.
    gone_since BIGINT,
    lost_at BIGINT,
    mail_from TEXT,
    -- Whether its records were right when they were last seen.
    mail_from_good BIGINT NOT NULL CHECK (mail_from_good IN (0, 1)),
    tracking_host TEXT,
    -- When a record to publish was last added.
    asked_at BIGINT NOT NULL,
    checked_at BIGINT,
    check_at BIGINT NOT NULL,
    report TEXT,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (account, name),
    CHECK ((verified_at IS NULL) = (verified_by IS NULL)),
    CHECK (mail_from IS NOT NULL OR mail_from_good = 0)
);
CREATE INDEX domain_check ON domain (check_at);

CREATE TABLE dkim_key (
    id TEXT PRIMARY KEY,
    domain TEXT NOT NULL REFERENCES domain (id),
    selector TEXT NOT NULL,
    algorithm TEXT NOT NULL CHECK (algorithm IN ('rsa', 'ed25519')),
    origin TEXT NOT NULL CHECK (origin IN ('made', 'brought')),
    -- Gone some time after the key has signed for the last time.
    sealed {octets},
    record TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('next', 'active', 'retired')),
    state_since BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (domain, selector)
);

CREATE TABLE address (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    address TEXT NOT NULL,
    digest {octets},
    expires_at BIGINT,
    verified_at BIGINT,
    created_at BIGINT NOT NULL,
    UNIQUE (account, address)
);
CREATE UNIQUE INDEX address_digest ON address (digest) WHERE digest IS NOT NULL;

CREATE TABLE person (
    id TEXT PRIMARY KEY,
    account TEXT REFERENCES account (id),
    email TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('operator', 'operator-read-only', 'owner', 'developer', 'viewer')),
    password TEXT,
    totp {octets},
    totp_on BIGINT NOT NULL CHECK (totp_on IN (0, 1)),
    totp_step BIGINT NOT NULL,
    disabled_at BIGINT,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    CHECK ((role IN ('operator', 'operator-read-only')) = (account IS NULL))
);
CREATE INDEX person_account ON person (account, id);

CREATE TABLE link (
    digest {octets} PRIMARY KEY,
    person TEXT NOT NULL REFERENCES person (id),
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

CREATE TABLE session (
    digest {octets} PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    person TEXT NOT NULL REFERENCES person (id),
    from_address TEXT,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX session_person ON session (person);

CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE suppression (
    account TEXT NOT NULL REFERENCES account (id),
    address TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, address)
);

CREATE TABLE idempotency (
    holder TEXT NOT NULL,
    key TEXT NOT NULL,
    digest {octets} NOT NULL,
    status BIGINT NOT NULL,
    body {octets} NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (holder, key)
);
CREATE INDEX idempotency_at ON idempotency (at);

-- How far events of the data plane have been taken in.
CREATE TABLE taken_in (
    source TEXT PRIMARY KEY,
    position TEXT NOT NULL
);

-- Who did what, when, from where. What the data plane must be told is found here too: nothing changes without a line.
CREATE TABLE audit (
    id {serial},
    at BIGINT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    actor_from TEXT,
    account TEXT,
    subject_kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_account ON audit (account, id);
CREATE INDEX audit_subject ON audit (subject, id);
";

/// Few rows of many octets: see `archive`. Numbers of events, blocks and runs count from nought and never come again.
const ARCHIVE_STEPS: &[Step] = &[
    Step { both: ARCHIVE, sqlite: "", postgres: ARCHIVE_POSTGRES },
    Step { both: SERIES_OF_DOMAINS, sqlite: "", postgres: "" },
];

const SERIES_OF_DOMAINS: &str = "
ALTER TABLE series RENAME TO series_before;
CREATE TABLE series (
    id {number},
    account TEXT NOT NULL,
    subaccount TEXT NOT NULL,
    configuration_set TEXT NOT NULL,
    pool TEXT NOT NULL,
    ip TEXT NOT NULL,
    provider TEXT NOT NULL,
    domain TEXT NOT NULL,
    concealed BIGINT NOT NULL,
    UNIQUE (account, subaccount, configuration_set, pool, ip, provider, domain, concealed)
);
INSERT INTO series (id, account, subaccount, configuration_set, pool, ip, provider, domain, concealed)
SELECT id, account, subaccount, configuration_set, pool, ip, provider, '', concealed FROM series_before;
DROP TABLE series_before;
";

const ARCHIVE: &str = "
CREATE TABLE event_source (
    id {number},
    name TEXT NOT NULL UNIQUE,
    position BIGINT NOT NULL
);

CREATE TABLE event_end (
    id {number},
    next BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);
INSERT INTO event_end (id, next, bytes) VALUES (1, 0, 0);

CREATE TABLE event_block (
    first {number},
    events BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    octets {octets} NOT NULL
);

CREATE TABLE event_run (
    first {number},
    blocks BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);

CREATE TABLE event_key (
    run BIGINT NOT NULL,
    first_key BIGINT NOT NULL,
    octets {octets} NOT NULL,
    PRIMARY KEY (run, first_key)
);

CREATE TABLE event_reader (
    name TEXT PRIMARY KEY,
    position BIGINT NOT NULL
);

CREATE TABLE webhook_place (
    webhook TEXT PRIMARY KEY,
    position BIGINT NOT NULL,
    pending BIGINT,
    failing_since BIGINT,
    failures BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    claimed_until BIGINT NOT NULL,
    claimed_by TEXT NOT NULL
);

CREATE TABLE webhook_delivery (
    id {serial},
    webhook TEXT NOT NULL,
    at BIGINT NOT NULL,
    batch TEXT NOT NULL,
    events BIGINT NOT NULL,
    taken BIGINT NOT NULL,
    status BIGINT,
    words TEXT NOT NULL,
    took_ms BIGINT NOT NULL,
    request TEXT NOT NULL,
    answer TEXT NOT NULL
);
CREATE INDEX webhook_delivery_webhook ON webhook_delivery (webhook, id);
CREATE INDEX webhook_delivery_at ON webhook_delivery (at);

CREATE TABLE series (
    id {number},
    account TEXT NOT NULL,
    subaccount TEXT NOT NULL,
    configuration_set TEXT NOT NULL,
    pool TEXT NOT NULL,
    ip TEXT NOT NULL,
    provider TEXT NOT NULL,
    concealed BIGINT NOT NULL,
    UNIQUE (account, subaccount, configuration_set, pool, ip, provider, concealed)
);

CREATE TABLE rollup (
    grain BIGINT NOT NULL,
    series BIGINT NOT NULL,
    at BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    deferred BIGINT NOT NULL,
    hard BIGINT NOT NULL,
    soft BIGINT NOT NULL,
    blocked BIGINT NOT NULL,
    other BIGINT NOT NULL,
    expired BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    suppressed BIGINT NOT NULL,
    complained BIGINT NOT NULL,
    unsubscribed BIGINT NOT NULL,
    opened BIGINT NOT NULL,
    clicked BIGINT NOT NULL,
    step0 BIGINT NOT NULL, step1 BIGINT NOT NULL, step2 BIGINT NOT NULL, step3 BIGINT NOT NULL,
    step4 BIGINT NOT NULL, step5 BIGINT NOT NULL, step6 BIGINT NOT NULL, step7 BIGINT NOT NULL,
    step8 BIGINT NOT NULL, step9 BIGINT NOT NULL, step10 BIGINT NOT NULL, step11 BIGINT NOT NULL,
    step12 BIGINT NOT NULL, step13 BIGINT NOT NULL, step14 BIGINT NOT NULL, step15 BIGINT NOT NULL,
    PRIMARY KEY (grain, series, at)
) {clustered};
CREATE INDEX rollup_at ON rollup (grain, at);
";

/// What looks like chance is not worth trying to compress.
const ARCHIVE_POSTGRES: &str = "
ALTER TABLE event_key ALTER COLUMN octets SET STORAGE EXTERNAL;
ALTER TABLE event_block ALTER COLUMN octets SET STORAGE EXTERNAL;
";

const GUARDS_SQLITE: &str = "
CREATE TRIGGER lease_overlap_insert BEFORE INSERT ON lease
WHEN EXISTS (
    SELECT 1 FROM lease l WHERE l.ip = NEW.ip
    AND COALESCE(l.ended_at, 9223372036854775807) > NEW.started_at
    AND COALESCE(NEW.ended_at, 9223372036854775807) > l.started_at
)
BEGIN SELECT RAISE(ABORT, 'two leases of one IP overlap'); END;

CREATE TRIGGER lease_overlap_update BEFORE UPDATE ON lease
WHEN EXISTS (
    SELECT 1 FROM lease l WHERE l.ip = NEW.ip AND l.id <> OLD.id
    AND COALESCE(l.ended_at, 9223372036854775807) > NEW.started_at
    AND COALESCE(NEW.ended_at, 9223372036854775807) > l.started_at
)
BEGIN SELECT RAISE(ABORT, 'two leases of one IP overlap'); END;

CREATE TRIGGER lease_region BEFORE UPDATE OF region ON ip WHEN NEW.region <> OLD.region
BEGIN SELECT RAISE(ABORT, 'an IP belongs to one region for ever'); END;

CREATE TRIGGER ip_home_insert BEFORE INSERT ON ip WHEN NEW.pool IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM pool p WHERE p.id = NEW.pool AND p.region = NEW.region AND (
        (p.account IS NULL AND NEW.state = 'shared')
        OR EXISTS (SELECT 1 FROM lease l WHERE l.ip = NEW.address AND l.ended_at IS NULL AND l.account = p.account)
    )
)
BEGIN SELECT RAISE(ABORT, 'an IP is only in a pool of its region and of who leases it'); END;

CREATE TRIGGER ip_home_update BEFORE UPDATE ON ip WHEN NEW.pool IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM pool p WHERE p.id = NEW.pool AND p.region = NEW.region AND (
        (p.account IS NULL AND NEW.state = 'shared')
        OR EXISTS (SELECT 1 FROM lease l WHERE l.ip = NEW.address AND l.ended_at IS NULL AND l.account = p.account)
    )
)
BEGIN SELECT RAISE(ABORT, 'an IP is only in a pool of its region and of who leases it'); END;

CREATE TRIGGER overflow_insert BEFORE INSERT ON pool WHEN NEW.overflow IS NOT NULL AND EXISTS (
    SELECT 1 FROM pool p WHERE (p.id = NEW.overflow AND p.overflow IS NOT NULL)
)
BEGIN SELECT RAISE(ABORT, 'an overflow pool has no overflow pool'); END;

CREATE TRIGGER overflow_update BEFORE UPDATE OF overflow ON pool WHEN NEW.overflow IS NOT NULL AND EXISTS (
    SELECT 1 FROM pool p WHERE (p.id = NEW.overflow AND p.overflow IS NOT NULL) OR p.overflow = NEW.id
)
BEGIN SELECT RAISE(ABORT, 'an overflow pool has no overflow pool'); END;

CREATE TRIGGER audit_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;

CREATE TRIGGER audit_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
";

const GUARDS_POSTGRES: &str = "
CREATE EXTENSION IF NOT EXISTS btree_gist;
ALTER TABLE lease ADD CONSTRAINT lease_overlap EXCLUDE USING gist (
    ip WITH =, int8range(started_at, COALESCE(ended_at, 9223372036854775807)) WITH &&
);

CREATE FUNCTION weir_ip_home() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.region <> OLD.region THEN
        RAISE EXCEPTION 'an IP belongs to one region for ever' USING ERRCODE = '23P01';
    END IF;
    IF NEW.pool IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM pool p WHERE p.id = NEW.pool AND p.region = NEW.region AND (
            (p.account IS NULL AND NEW.state = 'shared')
            OR EXISTS (SELECT 1 FROM lease l WHERE l.ip = NEW.address AND l.ended_at IS NULL AND l.account = p.account)
        )
    ) THEN
        RAISE EXCEPTION 'an IP is only in a pool of its region and of who leases it' USING ERRCODE = '23P01';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER ip_home BEFORE INSERT OR UPDATE ON ip FOR EACH ROW EXECUTE FUNCTION weir_ip_home();

CREATE FUNCTION weir_overflow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.overflow IS NOT NULL AND EXISTS (
        SELECT 1 FROM pool p WHERE (p.id = NEW.overflow AND p.overflow IS NOT NULL) OR p.overflow = NEW.id
    ) THEN
        RAISE EXCEPTION 'an overflow pool has no overflow pool' USING ERRCODE = '23P01';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER overflow BEFORE INSERT OR UPDATE OF overflow ON pool FOR EACH ROW EXECUTE FUNCTION weir_overflow();

CREATE FUNCTION weir_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only added to' USING ERRCODE = '23P01';
END $$;
CREATE TRIGGER audit_kept BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION weir_audit();
";

impl Store {
    /// Opens the database and brings its schema up to date.
    pub async fn open(location: &Location) -> Result<Store, StoreFault> {
        let store = Store::at(location)?;
        store.bring_up_to_date().await?;
        Ok(store)
    }

    /// Brings the schema to this program's version; a newer one is left alone and named.
    pub async fn bring_up_to_date(&self) -> Result<(), StoreFault> {
        self.bring(&TENANTS_PLAN).await
    }

    /// The same, of the archive.
    pub(crate) async fn bring_archive_up_to_date(&self) -> Result<(), StoreFault> {
        self.bring(&ARCHIVE_PLAN).await
    }

    async fn bring(&self, plan: &Plan) -> Result<(), StoreFault> {
        let mut conn = self.writer().await?;
        let known = i64::try_from(plan.steps.len()).unwrap_or(i64::MAX);
        let found = version(plan, &mut conn).await.map_err(|fault| unusable(&fault))?;
        if found > known {
            return Err(StoreFault::Newer { found, known });
        }
        for (step, number) in plan.steps.iter().zip(1i64..).skip(usize::try_from(found).unwrap_or(0)) {
            take(plan, self.engine(), &mut conn, step, number).await.map_err(|fault| unusable(&fault))?;
            tracing::info!(version = number, "the database's schema is brought up to date");
        }
        Ok(())
    }
}

fn unusable(fault: &sqlx::Error) -> StoreFault {
    StoreFault::Unusable(fault.to_string())
}

async fn version(plan: &Plan, conn: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    conn.execute(plan.made).await?;
    let row = conn.fetch_one(plan.found).await?;
    row.try_get(0)
}

async fn take(
    plan: &Plan,
    engine: Engine,
    conn: &mut AnyConnection,
    step: &Step,
    number: i64,
) -> Result<(), sqlx::Error> {
    let (octets, serial, number_key, clustered, guards) = match engine {
        Engine::Sqlite => {
            ("BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER PRIMARY KEY", "WITHOUT ROWID", step.sqlite)
        }
        Engine::Postgres => {
            ("BYTEA", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "BIGINT PRIMARY KEY", "", step.postgres)
        }
    };
    let both = step.both.replace("{octets}", octets).replace("{serial}", serial);
    let both = both.replace("{number}", number_key).replace("{clustered}", clustered);
    let mut tx = conn.begin().await?;
    // Ours, from the constants above.
    tx.execute(sqlx::raw_sql(AssertSqlSafe(both))).await?;
    tx.execute(sqlx::raw_sql(guards)).await?;
    sqlx::query(plan.noted).bind(number).execute(&mut *tx).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{ARCHIVE_PLAN, ARCHIVE_STEPS, SERIES_OF_DOMAINS, take, version};
    use crate::store::{Engine, Location, Store};
    use sqlx::{Executor as _, Row as _};

    // A step that copies a table must lose nothing of it.
    #[tokio::test]
    async fn counts_outlive_the_step_that_knows_domains() {
        let path = std::env::temp_dir().join(format!("weir-step-{}.db", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let store = Store::at(&Location::Sqlite(path.clone())).unwrap();
        let mut conn = store.writer().await.unwrap();
        version(&ARCHIVE_PLAN, &mut conn).await.unwrap();
        let before = ARCHIVE_STEPS.iter().position(|step| step.both == SERIES_OF_DOMAINS).unwrap();
        for (step, number) in ARCHIVE_STEPS[..before].iter().zip(1..) {
            take(&ARCHIVE_PLAN, Engine::Sqlite, &mut conn, step, number).await.unwrap();
        }
        let columns = "id, account, subaccount, configuration_set, pool, ip, provider, concealed";
        let insert =
            format!("INSERT INTO series ({columns}) VALUES (7, 'ann', 'part', '', 'p', '192.0.2.1', 'gmail', 1)");
        conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(insert))).await.unwrap();
        drop(conn);
        store.bring_archive_up_to_date().await.unwrap();
        let mut conn = store.writer().await.unwrap();
        let row = conn.fetch_one("SELECT id, account, ip, concealed, domain FROM series").await.unwrap();
        let kept: (i64, String, String, i64, String) = (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
        assert_eq!(kept, (7, "ann".into(), "192.0.2.1".into(), 1, String::new()));
        drop(conn);
        std::fs::remove_file(&path).unwrap();
    }
}
