//! Where metrics are offered: `--metrics PORT` or `--metrics ADDRESS:PORT`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Reads what was typed. A port alone is one of this host only.
pub fn parse(typed: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = typed.parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    typed.parse().map_err(|_| {
        "neither a port nor an address with a port: write e.g. 9464, 192.0.2.1:9464 or [::]:9464"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_one_of_this_host_only() {
        let at = |typed| parse(typed).expect("an address").to_string();
        assert_eq!(at("9464"), "127.0.0.1:9464");
        assert_eq!(at("0.0.0.0:9464"), "0.0.0.0:9464");
        assert_eq!(at("[::1]:9464"), "[::1]:9464");
    }

    #[test]
    fn anything_else_is_refused() {
        for typed in ["", "localhost:9464", "127.0.0.1", "70000", ":9464", "-1"] {
            assert!(parse(typed).is_err(), "{typed}");
        }
    }
}
