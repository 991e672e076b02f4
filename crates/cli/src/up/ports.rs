//! Addresses: which are free, and how they are called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::Context as _;

pub(super) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Where this machine reaches what listens there.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => LOCALHOST,
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

pub(super) fn url(address: SocketAddr) -> String {
    format!("http://{}", reachable(address))
}

/// Addresses that were free a moment ago. They are chosen here, not by the children, because a restarted child must
/// come back where the others look for it.
pub(super) struct Ports {
    free: bool,
    listeners: Vec<TcpListener>,
}

impl Ports {
    pub(super) fn new(free: bool) -> Self {
        Self {
            free,
            listeners: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, asked: Option<SocketAddr>, default: u16, flag: &str) -> anyhow::Result<SocketAddr> {
        let default = SocketAddr::new(LOCALHOST, if self.free { 0 } else { default });
        let address = asked.unwrap_or(default);
        let listener = TcpListener::bind(address).with_context(|| {
            format!("cannot listen on {address}; is another platform running? Choose another address with {flag}, or --free-ports")
        })?;
        let address = listener.local_addr()?;
        self.listeners.push(listener);
        Ok(address)
    }

    pub(super) fn take_nth(
        &mut self,
        asked: Option<SocketAddr>,
        default: u16,
        index: u16,
        flag: &str,
    ) -> anyhow::Result<SocketAddr> {
        let nth = |port: u16| if port == 0 { Some(0) } else { port.checked_add(index) };
        let asked = asked
            .map(|address| {
                let port = nth(address.port()).with_context(|| format!("{flag} leaves no port for every worker"))?;
                anyhow::Ok(SocketAddr::new(address.ip(), port))
            })
            .transpose()?;
        self.take(asked, default + index, flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_used_ones_are_refused() {
        let mut ports = Ports::new(true);
        let first = ports.take(None, 8470, "--a").unwrap();
        let second = ports.take_nth(None, 8480, 1, "--b").unwrap();
        assert!(first.port() != 0 && second.port() != 0 && first != second);
        let error = ports.take(Some(first), 1, "--router-listen").unwrap_err().to_string();
        assert!(
            error.contains("--router-listen") && error.contains("--free-ports"),
            "{error}"
        );
        assert!(
            ports
                .take_nth(Some("127.0.0.1:65535".parse().unwrap()), 1, 1, "--b")
                .is_err()
        );
    }

    #[test]
    fn all_interfaces_are_called_by_the_loopback_one() {
        assert_eq!(url("0.0.0.0:8470".parse().unwrap()), "http://127.0.0.1:8470");
        assert_eq!(url("[::]:8470".parse().unwrap()), "http://[::1]:8470");
        assert_eq!(url("10.1.2.3:1".parse().unwrap()), "http://10.1.2.3:1");
    }
}
