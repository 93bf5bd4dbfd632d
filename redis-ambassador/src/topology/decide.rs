//! Who is primary and who may serve reads, given what the servers say. Pure.

use super::Observation;
use crate::route::{Standing, View};

/// Decides. `previous` is the primary so far; server 0 is the one that the configuration calls primary.
pub(super) fn decide(previous: Option<usize>, observations: &[Observation]) -> View {
    let primary = primary(previous, observations);
    let servers = observations
        .iter()
        .enumerate()
        .map(|(server, observation)| standing(server, observation, primary))
        .collect();
    View { primary, servers }
}

fn primary(previous: Option<usize>, observations: &[Observation]) -> Option<usize> {
    let claims = |server: usize| match observations.get(server) {
        Some(Observation::Primary { replicas, .. }) => Some(*replicas),
        _ => None,
    };
    let others = (0..observations.len()).filter(|server| Some(*server) != previous);
    // Of several, the one that replicas follow.
    let best = others
        .filter_map(|server| Some((claims(server)?, server)))
        .max_by_key(|(replicas, server)| (*replicas, std::cmp::Reverse(*server)));
    match (previous, best) {
        (Some(previous), best) if let Some(followers) = claims(previous) => match best {
            // Two claim it, and the replicas have left the old one: writes to it would be lost.
            Some((replicas, other)) if replicas > 0 && followers == 0 => Some(other),
            _ => Some(previous),
        },
        (_, Some((_, other))) => Some(other),
        (previous, None) => {
            let configured = previous.or((!observations.is_empty()).then_some(0))?;
            match observations.get(configured) {
                // Nobody contradicts the configuration: clients learn what it says itself.
                Some(Observation::Silent(_) | Observation::Loading) => Some(configured),
                _ => None,
            }
        }
    }
}

fn standing(server: usize, observation: &Observation, primary: Option<usize>) -> Standing {
    match observation {
        Observation::Unknown | Observation::Unreachable(_) => Standing::default(),
        // Not verified: it is where the configuration says a replica is.
        Observation::Silent(_) => Standing { fit: Some(server) != primary, reachable: true },
        Observation::Loading | Observation::Primary { .. } => Standing { fit: false, reachable: true },
        Observation::Replica { link, offset, .. } => {
            // A replica that lost its primary serves what it has as long as there is no other primary to be
            // compared with; one that is being synchronised may be empty.
            let synced = link == "connected" || (primary.is_none() && link != "sync");
            Standing { fit: synced && offset.is_some(), reachable: true }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary_with(replicas: usize) -> Observation {
        Observation::Primary { offset: 1, replicas }
    }

    fn replica(link: &str) -> Observation {
        Observation::Replica { primary: ("p".to_owned(), 1), link: link.to_owned(), offset: Some(1) }
    }

    fn gone() -> Observation {
        Observation::Unreachable("refused".to_owned())
    }

    fn fit(view: &View) -> Vec<usize> {
        view.replicas().collect()
    }

    #[test]
    fn roles_come_from_the_servers() {
        let view = decide(None, &[replica("connected"), primary_with(1), replica("connected")]);
        assert_eq!((view.primary, fit(&view)), (Some(1), vec![0, 2]));
    }

    #[test]
    fn a_lost_primary_leaves_its_replicas_reading() {
        let view = decide(Some(0), &[gone(), replica("connect"), replica("sync")]);
        assert_eq!((view.primary, fit(&view)), (None, vec![1]));
        let view = decide(Some(0), &[primary_with(1), replica("connected"), replica("connect")]);
        assert_eq!(fit(&view), [1]);
    }

    #[test]
    fn a_promoted_replica_takes_over() {
        let view = decide(Some(0), &[gone(), primary_with(1), replica("connected")]);
        assert_eq!(view.primary, Some(1));
        let view = decide(Some(0), &[replica("connect"), primary_with(0), replica("sync")]);
        assert_eq!(view.primary, Some(1));
    }

    #[test]
    fn of_two_primaries_the_followed_one_is_used() {
        assert_eq!(decide(Some(0), &[primary_with(0), primary_with(1)]).primary, Some(1));
        assert_eq!(decide(Some(0), &[primary_with(1), primary_with(1)]).primary, Some(0));
        assert_eq!(decide(Some(0), &[primary_with(0), primary_with(0)]).primary, Some(0));
        assert_eq!(decide(None, &[primary_with(0), primary_with(2)]).primary, Some(1));
    }

    #[test]
    fn a_server_that_does_not_tell_is_what_the_configuration_says() {
        let silent = || Observation::Silent("NOAUTH".to_owned());
        let view = decide(None, &[silent(), silent()]);
        assert_eq!((view.primary, fit(&view)), (Some(0), vec![1]));
        assert_eq!(decide(None, &[]).primary, None);
        assert_eq!(decide(None, &[Observation::Unknown]).primary, None);
    }
}
