//! Who is primary and who may serve reads, given what the servers say. Pure.

use super::Observation;
use crate::route::{Standing, View};

/// What is known besides the servers' own words.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Evidence {
    /// The primary so far.
    pub(super) previous: Option<usize>,
    /// The server that the configuration calls primary.
    pub(super) configured: Option<usize>,
    /// Whom the Sentinels name.
    pub(super) appointed: Option<usize>,
    /// A synchronised replica that was just seen turning into a primary.
    pub(super) promoted: Option<usize>,
    /// A primary that the Sentinels are about to replace: it gets no more writes.
    pub(super) held: Option<usize>,
}

/// Decides.
pub(super) fn decide(evidence: Evidence, observations: &[Observation]) -> View {
    let primary = primary(evidence, observations).filter(|primary| evidence.held != Some(*primary));
    let servers = observations
        .iter()
        .enumerate()
        .map(|(server, observation)| standing(server, observation, primary))
        .collect();
    View { primary, servers, cluster: None }
}

fn primary(evidence: Evidence, observations: &[Observation]) -> Option<usize> {
    let Evidence { previous, appointed, promoted, .. } = evidence;
    let claims = |server: usize| match observations.get(server) {
        Some(Observation::Primary { replicas, .. }) => Some(replicas.len()),
        _ => None,
    };
    if let Some(promoted) = promoted.filter(|promoted| claims(*promoted).is_some()) {
        return Some(promoted);
    }
    if let Some(appointed) = appointed {
        if claims(appointed).is_some() {
            return Some(appointed);
        }
        // The Sentinels have moved on; whatever the previous one says, writes to it would be lost.
        if previous.is_some() && previous != Some(appointed) {
            return None;
        }
    }
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
            let configured = previous.or(evidence.configured)?;
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
        Observation::Primary { offset: 1, replicas: vec![("r".to_owned(), 1); replicas] }
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

    fn after(previous: Option<usize>) -> Evidence {
        Evidence { previous, configured: Some(0), ..Evidence::default() }
    }

    #[test]
    fn sentinels_are_believed_once_the_server_agrees() {
        let evidence = Evidence { appointed: Some(1), ..after(Some(0)) };
        assert_eq!(decide(evidence, &[primary_with(1), primary_with(0)]).primary, Some(1));
        assert_eq!(decide(evidence, &[primary_with(1), replica("connected")]).primary, None);
        let evidence = Evidence { appointed: Some(0), ..after(Some(0)) };
        assert_eq!(decide(evidence, &[gone(), primary_with(0)]).primary, Some(1));
    }

    #[test]
    fn a_promotion_ends_writes_to_the_old_primary() {
        let both = [primary_with(2), primary_with(0)];
        let evidence = Evidence { appointed: Some(0), promoted: Some(1), ..after(Some(0)) };
        assert_eq!(decide(evidence, &both).primary, Some(1));
        let evidence = Evidence { held: Some(0), ..after(Some(0)) };
        assert_eq!(decide(evidence, &[primary_with(2), replica("connected")]).primary, None);
        assert_eq!(decide(Evidence { promoted: Some(1), ..evidence }, &both).primary, Some(1));
        // The announcement comes late: the new primary is not held for it.
        let late = Evidence { held: Some(0), ..after(Some(1)) };
        assert_eq!(decide(late, &[replica("connected"), primary_with(1)]).primary, Some(1));
    }

    #[test]
    fn roles_come_from_the_servers() {
        let view = decide(after(None), &[replica("connected"), primary_with(1), replica("connected")]);
        assert_eq!((view.primary, fit(&view)), (Some(1), vec![0, 2]));
    }

    #[test]
    fn a_lost_primary_leaves_its_replicas_reading() {
        let view = decide(after(Some(0)), &[gone(), replica("connect"), replica("sync")]);
        assert_eq!((view.primary, fit(&view)), (None, vec![1]));
        let view = decide(after(Some(0)), &[primary_with(1), replica("connected"), replica("connect")]);
        assert_eq!(fit(&view), [1]);
    }

    #[test]
    fn a_promoted_replica_takes_over() {
        let view = decide(after(Some(0)), &[gone(), primary_with(1), replica("connected")]);
        assert_eq!(view.primary, Some(1));
        let view = decide(after(Some(0)), &[replica("connect"), primary_with(0), replica("sync")]);
        assert_eq!(view.primary, Some(1));
    }

    #[test]
    fn of_two_primaries_the_followed_one_is_used() {
        assert_eq!(decide(after(Some(0)), &[primary_with(0), primary_with(1)]).primary, Some(1));
        assert_eq!(decide(after(Some(0)), &[primary_with(1), primary_with(1)]).primary, Some(0));
        assert_eq!(decide(after(Some(0)), &[primary_with(0), primary_with(0)]).primary, Some(0));
        assert_eq!(decide(after(None), &[primary_with(0), primary_with(2)]).primary, Some(1));
    }

    #[test]
    fn a_server_that_does_not_tell_is_what_the_configuration_says() {
        let silent = || Observation::Silent("NOAUTH".to_owned());
        let view = decide(after(None), &[silent(), silent()]);
        assert_eq!((view.primary, fit(&view)), (Some(0), vec![1]));
        assert_eq!(decide(after(None), &[]).primary, None);
        assert_eq!(decide(after(None), &[Observation::Unknown]).primary, None);
    }
}
