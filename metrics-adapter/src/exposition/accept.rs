//! Content negotiation: which format and which compression a client takes.

/// A format of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Delimited protobuf.
    Protobuf,
}

impl Format {
    /// Reads an `Accept` header; what it does not offer, and no header at all, is text.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        let offers = accept.split(',').filter_map(|offer| {
            let (media, parameters) = Self::parameters(offer);
            let format = match media {
                "application/vnd.google.protobuf" => {
                    let fits = |name, wanted| parameters.iter().any(|&(k, v)| k == name && v == wanted);
                    let family = fits("proto", "io.prometheus.client.MetricFamily");
                    (family && fits("encoding", "delimited")).then_some(Self::Protobuf)?
                }
                "application/openmetrics-text" => {
                    let version = parameters.iter().find(|(name, _)| *name == "version");
                    version
                        .is_none_or(|(_, v)| *v == "1.0.0" || *v == "0.0.1")
                        .then_some(Self::OpenMetrics)?
                }
                "text/plain" | "text/*" | "*/*" => Self::Text,
                _ => return None,
            };
            Some((quality(&parameters), format)).filter(|(quality, _)| *quality > 0.0)
        });
        // Of equally welcome formats the first one wins.
        let better = |best: Option<(f32, Self)>, offer: (f32, Self)| match best {
            Some(best) if best.0 >= offer.0 => Some(best),
            _ => Some(offer),
        };
        offers.fold(None, better).map_or(Self::Text, |(_, format)| format)
    }

    fn parameters(offer: &str) -> (&str, Vec<(&str, &str)>) {
        let mut parts = offer.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let pairs = parts.filter_map(|part| part.split_once('='));
        (media, pairs.map(|(name, value)| (name.trim(), value.trim().trim_matches('"'))).collect())
    }

    /// The `Content-Type` of a page in this format.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Self::OpenMetrics => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
            }
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; \
                 escaping=underscores"
            }
        }
    }
}

/// A compression of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None.
    Identity,
    /// `gzip`
    Gzip,
    /// `zstd`
    Zstd,
}

impl Compression {
    /// Reads an `Accept-Encoding` header.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        let offers = accept.split(',').filter_map(|offer| {
            let (coding, parameters) = Format::parameters(offer);
            let compression = match coding {
                "gzip" | "*" => Self::Gzip,
                "zstd" => Self::Zstd,
                "identity" => Self::Identity,
                _ => return None,
            };
            Some((quality(&parameters), compression)).filter(|(quality, _)| *quality > 0.0)
        });
        let better = |best: Option<(f32, Self)>, offer: (f32, Self)| match best {
            Some(best) if best.0 >= offer.0 => Some(best),
            _ => Some(offer),
        };
        offers.fold(None, better).map_or(Self::Identity, |(_, compression)| compression)
    }

    /// The `Content-Encoding`, if any.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

fn quality(parameters: &[(&str, &str)]) -> f32 {
    let text = parameters.iter().find(|(name, _)| *name == "q").map(|(_, value)| *value);
    text.map_or(1.0, |text| text.parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let proto =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html", Format::Text),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", Format::Text),
            (proto, Format::Protobuf),
            (&format!("text/plain;q=0.3,{proto};q=0.9"), Format::Protobuf),
            ("application/vnd.google.protobuf;proto=other;encoding=delimited", Format::Text),
            ("text/plain;q=0, application/openmetrics-text", Format::OpenMetrics),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept}");
        }
    }

    #[test]
    fn compressions() {
        for (accept, compression) in [
            ("", Compression::Identity),
            ("gzip", Compression::Gzip),
            ("deflate, gzip;q=0.5, zstd", Compression::Zstd),
            ("zstd;q=0.5,gzip", Compression::Gzip),
            ("gzip;q=0", Compression::Identity),
            ("br", Compression::Identity),
        ] {
            assert_eq!(Compression::negotiate(accept), compression, "{accept}");
        }
    }
}
