//! What follows from one server's words, compared with what it said before. Pure.

use super::Observation;

/// A replica that has lost its primary tells no offset, but keeps the data it had.
pub(super) fn carry_over(before: &Observation, mut after: Observation) -> Observation {
    if let (Observation::Replica { offset: known @ Some(_), .. }, Observation::Replica { offset, link, .. }) =
        (before, &mut after)
        && offset.is_none()
        && link != "sync"
    {
        *offset = *known;
    }
    after
}

/// Whether a synchronised replica has become a primary, with the data that it had. A Sentinel cuts our connection
/// when it promotes, so the replica may have been out of sight in between; a server that was restarted empty has
/// fallen behind its former offset.
pub(super) fn is_promotion(known: Option<u64>, before: &Observation, after: &Observation) -> bool {
    match (known, before, after) {
        (Some(_), Observation::Replica { .. }, Observation::Primary { .. }) => true,
        (Some(known), _, Observation::Primary { offset, .. }) => known > 0 && *offset >= known,
        _ => false,
    }
}

pub(super) fn role_changed(before: &Observation, after: &Observation) -> bool {
    match (before, after) {
        (Observation::Primary { .. }, Observation::Primary { .. }) => false,
        (Observation::Replica { primary, link, .. }, Observation::Replica { primary: p, link: l, .. }) => {
            (primary, link) != (p, l)
        }
        (Observation::Unreachable(_), Observation::Unreachable(_)) => false,
        (before, after) => before != after,
    }
}

/// One line about a server, for logs and the status page.
pub(crate) fn describe(observation: &Observation) -> String {
    match observation {
        Observation::Unknown => "not asked yet".to_owned(),
        Observation::Unreachable(why) => format!("unreachable: {why}"),
        Observation::Silent(why) => format!("does not tell its role ({why})"),
        Observation::Loading => "loading its data".to_owned(),
        Observation::Primary { replicas, .. } => format!("primary with {} replicas", replicas.len()),
        Observation::Replica { primary: (host, port), link, .. } => {
            format!("replica of {host}:{port}, link {link}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(offset: u64) -> Observation {
        Observation::Primary { offset, replicas: Vec::new() }
    }

    fn replica(link: &str, offset: Option<u64>) -> Observation {
        Observation::Replica { primary: ("p".to_owned(), 1), link: link.to_owned(), offset }
    }

    #[test]
    fn a_promotion_keeps_the_data() {
        let gone = Observation::Unreachable("cut".to_owned());
        assert!(is_promotion(Some(0), &replica("connected", Some(0)), &primary(0)));
        assert!(is_promotion(Some(100), &gone, &primary(120)));
        assert!(!is_promotion(Some(100), &gone, &primary(0)), "restarted empty");
        assert!(!is_promotion(None, &gone, &primary(120)), "it was a primary before");
        assert!(!is_promotion(Some(100), &gone, &replica("connected", Some(120))));
    }

    #[test]
    fn a_replica_without_its_primary_keeps_its_offset() {
        let known = replica("connected", Some(7));
        assert_eq!(carry_over(&known, replica("connect", None)), replica("connect", Some(7)));
        assert_eq!(carry_over(&known, replica("sync", None)), replica("sync", None));
        assert_eq!(carry_over(&primary(7), replica("connect", None)), replica("connect", None));
    }

    #[test]
    fn offsets_are_no_change_of_role() {
        assert!(!role_changed(&primary(1), &primary(2)));
        assert!(!role_changed(&replica("connected", Some(1)), &replica("connected", Some(2))));
        assert!(role_changed(&replica("connected", Some(1)), &replica("connect", Some(1))));
        assert!(role_changed(&primary(1), &Observation::Loading));
    }
}
