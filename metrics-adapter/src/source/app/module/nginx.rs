//! nginx's `stub_status`, named as nginx-prometheus-exporter names it.

use crate::family::Kind;
use crate::reader::{Builder, ReadError};

pub(super) fn read(text: &str, out: &mut Builder) -> Result<(), ReadError> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let wrong = || ReadError::new(format!("no stub_status page: `{}`", crate::reader::shortened(text, 60)));
    let mut next = || lines.next().ok_or_else(wrong);
    let numbers =
        |line: &str| -> Vec<f64> { line.split([' ', ':']).filter_map(|word| word.parse().ok()).collect() };
    let first = next()?;
    let active = first.strip_prefix("Active connections:").map(numbers).ok_or_else(wrong)?;
    // `server accepts handled requests`, and with some builds `request_time` as a fourth.
    next()?;
    let totals = numbers(next()?);
    let states = numbers(next()?);
    let (&[active], &[accepted, handled, requests, ..], &[reading, writing, waiting]) =
        (&active[..], &totals[..], &states[..])
    else {
        return Err(wrong());
    };
    let gauges = [
        ("active", active, "Client connections, waiting ones included."),
        ("reading", reading, "Connections whose request head is being read."),
        ("writing", writing, "Connections to which a response is being written."),
        ("waiting", waiting, "Idle connections that wait for a request."),
    ];
    for (state, value, help) in gauges {
        out.put(&format!("nginx_connections_{state}"), help, Kind::Gauge, &[], value);
    }
    out.put("nginx_connections_accepted", "Connections accepted.", Kind::Counter, &[], accepted);
    out.put("nginx_connections_handled", "Connections handled.", Kind::Counter, &[], handled);
    out.put("nginx_http_requests_total", "Requests.", Kind::Counter, &[], requests);
    Ok(())
}
