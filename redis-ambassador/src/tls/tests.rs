use super::*;

#[test]
fn errors_name_the_file() {
    let missing = UpstreamTls { ca_file: Some("/nonexistent/ca.pem".into()), ..UpstreamTls::default() };
    let error = TowardsServers::load(&missing).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_owned();
    let empty = ClientTls { certificate: path.clone(), key: path.clone(), client_ca: None };
    let error = TowardsClients::load(&empty).unwrap_err().to_string();
    assert!(error.contains("no certificate in it") && error.contains(&path.display().to_string()), "{error}");
}

#[test]
fn names_are_the_hosts_unless_one_is_given() {
    let settings = UpstreamTls { verify: Verify::None, ..UpstreamTls::default() };
    let tls = TowardsServers::load(&settings).unwrap();
    assert_eq!(tls.name("10.0.0.1").unwrap().to_str(), "10.0.0.1");
    assert!(tls.name("no such name").is_err());
    let named = UpstreamTls { server_name: Some("redis.example".to_owned()), ..settings };
    assert_eq!(TowardsServers::load(&named).unwrap().name("10.0.0.1").unwrap().to_str(), "redis.example");
}
