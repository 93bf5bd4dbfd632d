//! Commands that mean more than "forward this": they change the connection, or their arguments decide.

/// Why a command cannot be forwarded like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Forwarded as the table says.
    Plain,
    /// `MULTI`.
    Multi,
    /// `EXEC`.
    Exec,
    /// `DISCARD`.
    Discard,
    /// `WATCH`.
    Watch,
    /// `UNWATCH`.
    Unwatch,
    /// `SUBSCRIBE`, `PSUBSCRIBE`, `SSUBSCRIBE` and their opposites.
    Subscribe,
    /// `MONITOR`, `SYNC`, `PSYNC`, `REPLCONF`: the connection becomes a stream.
    Stream,
    /// `SELECT`.
    Select,
    /// `AUTH`.
    Auth,
    /// `HELLO`.
    Hello,
    /// `CLIENT`.
    Client,
    /// `RESET`.
    Reset,
    /// `QUIT`.
    Quit,
    /// `WAIT`, `WAITAOF`: about the writes of this very connection.
    Wait,
    /// `SORT`, `SORT_RO`.
    Sort,
    /// `GEORADIUS`, `GEORADIUSBYMEMBER`.
    GeoRadius,
    /// `BITFIELD`.
    Bitfield,
    /// `XREAD`, `XREADGROUP`: blocks only when asked to.
    StreamRead,
    /// `EVAL_RO`, `EVALSHA_RO`, `FCALL_RO`: a replica may lack the script.
    ReadScript,
    /// `SCRIPT`, `FUNCTION`.
    Script,
    /// `SCAN`, `HSCAN`, `SSCAN`, `ZSCAN`: the cursor means something to the server that gave it only.
    Scan,
    /// `CONFIG`, `DEBUG`: may change how the server behaves.
    Settings,
}

/// The kind of the command `name` (lower case, subcommands as `container|sub`).
pub(super) fn kind_of(name: &str) -> Kind {
    match name.split('|').next().unwrap_or(name) {
        "multi" => Kind::Multi,
        "exec" => Kind::Exec,
        "discard" => Kind::Discard,
        "watch" => Kind::Watch,
        "unwatch" => Kind::Unwatch,
        "subscribe" | "psubscribe" | "ssubscribe" | "unsubscribe" | "punsubscribe" | "sunsubscribe" => {
            Kind::Subscribe
        }
        "monitor" | "sync" | "psync" | "replconf" => Kind::Stream,
        "select" => Kind::Select,
        "auth" => Kind::Auth,
        "hello" => Kind::Hello,
        "client" => Kind::Client,
        "reset" => Kind::Reset,
        "quit" => Kind::Quit,
        "wait" | "waitaof" => Kind::Wait,
        "sort" | "sort_ro" => Kind::Sort,
        "georadius" | "georadiusbymember" => Kind::GeoRadius,
        "bitfield" => Kind::Bitfield,
        "xread" | "xreadgroup" => Kind::StreamRead,
        "eval_ro" | "evalsha_ro" | "fcall_ro" => Kind::ReadScript,
        "script" | "function" => Kind::Script,
        "scan" | "hscan" | "sscan" | "zscan" => Kind::Scan,
        "config" | "debug" => Kind::Settings,
        _ => Kind::Plain,
    }
}

/// Reads whose answer differs between a primary and a replica with the same data: order, encodings, ages, caches.
pub(super) fn is_server_specific(name: &str) -> bool {
    matches!(
        name.split('|').next().unwrap_or(name),
        "object"
            | "memory"
            | "debug"
            | "xinfo"
            | "scan"
            | "sscan"
            | "hscan"
            | "zscan"
            | "keys"
            | "dbsize"
            | "randomkey"
            | "touch"
            | "dump"
            | "lolwut"
    )
}

/// Commands without the read flag that nevertheless leave every key as it is.
pub(super) fn is_dataless(name: &str) -> bool {
    matches!(
        name.split('|').next().unwrap_or(name),
        "ping"
            | "echo"
            | "time"
            | "info"
            | "role"
            | "command"
            | "config"
            | "client"
            | "latency"
            | "slowlog"
            | "lastsave"
            | "acl"
            | "pubsub"
            | "publish"
            | "spublish"
            | "script"
            | "select"
            | "auth"
            | "hello"
            | "quit"
            | "reset"
    )
}

/// Commands that run a client's code: the server answers `BUSY` to others once that takes long.
pub(super) fn runs_code(name: &str) -> bool {
    matches!(name, "eval" | "evalsha" | "eval_ro" | "evalsha_ro" | "fcall" | "fcall_ro")
}
