//! Prints every readable attribute of a JVM: `cargo run --example jmx_dump -- localhost 9010`.

use metrics_adapter::jmx::client::{AttributeRequest, BeanAnswer, Client, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().ok_or("the host is missing")?;
    let port = arguments.next().ok_or("the port is missing")?.parse()?;
    let mut client = Client::connect(Options::new(host, port)).await?;
    let beans = client.query_mbeans(None).await?;
    let names: Vec<&str> = beans.iter().map(|bean| &*bean.name).collect();
    let infos = client.mbean_infos(&names).await?;
    for (name, info) in names.into_iter().zip(infos) {
        let Some(info) = info else { continue };
        let readable: Vec<&str> =
            info.attributes.iter().filter(|attribute| attribute.readable).map(|a| a.name.as_str()).collect();
        let request = AttributeRequest { bean: name, attributes: &readable };
        let BeanAnswer::Values(answer) = client.attributes(&[request]).await?.remove(0) else { continue };
        for unreadable in &answer.unreadable {
            println!("{name} {unreadable}: unreadable");
        }
        for (attribute, value) in answer {
            println!("{name} {attribute} = {value:?}");
        }
    }
    client.close().await;
    Ok(())
}
