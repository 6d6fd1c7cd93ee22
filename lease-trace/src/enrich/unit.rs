//! What a cgroup belongs to, read off its path: the systemd unit, and the container. Pure functions
//! of the text; a name that no engine is known to give says nothing.

/// Unit types that have processes of their own.
const UNITS: [&str; 5] = [".service", ".scope", ".mount", ".socket", ".swap"];
/// Digits of the id that container engines give.
const ID_LEN: usize = 64;
/// What engines put in front of the id, in the name of a scope.
const ENGINES: [&str; 5] = ["docker-", "libpod-", "cri-containerd-", "crio-", "nerdctl-"];

/// The innermost systemd unit on a cgroup's path, but for slices.
pub fn unit(cgroup: &str) -> Option<&str> {
    let mut names = cgroup.rsplit('/');
    names.find(|name| UNITS.iter().any(|unit| name.ends_with(unit)))
}

/// The innermost container: the id that docker, podman, containerd or CRI-O gave it, or the name
/// of one of LXC's or systemd-nspawn's.
pub fn container(cgroup: &str) -> Option<&str> {
    cgroup.rsplit('/').find_map(of_name)
}

fn of_name(name: &str) -> Option<&str> {
    let scope = name.strip_suffix(".scope");
    let id = match scope {
        Some(scope) => ENGINES
            .iter()
            .find_map(|engine| scope.strip_prefix(engine))
            .unwrap_or(scope),
        // Without systemd: /docker/ID, /kubepods/burstable/podUID/ID.
        None => name,
    };
    let is_id = id.len() == ID_LEN && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id {
        return Some(id);
    }
    name.strip_prefix("lxc.payload.")
        .or_else(|| {
            name.strip_prefix("systemd-nspawn@")?
                .strip_suffix(".service")
        })
        // A machine of libvirt's is no container.
        .or_else(|| scope?.strip_prefix("machine-"))
        .filter(|name| !name.is_empty() && !name.starts_with("qemu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899a";

    fn id_of(cgroup: &str) -> Option<String> {
        container(&cgroup.replace("ID", ID)).map(|found| found.replace(ID, "ID"))
    }

    #[test]
    fn every_engine_has_its_way_to_name_a_container() {
        for cgroup in [
            "/docker/ID",
            "/system.slice/docker-ID.scope",
            "/system.slice/docker-ID.scope/init.scope",
            "/machine.slice/libpod-ID.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            "/kubepods/burstable/pod8b4a1c7e-1d2f-4d5a/ID",
            "/kubepods.slice/kubepods-pod8b4a_1c7e.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-besteffort.slice/crio-ID.scope",
            "/system.slice/nerdctl-ID.scope",
        ] {
            assert_eq!(id_of(cgroup).as_deref(), Some("ID"), "{cgroup}");
        }
        let named = |cgroup| container(cgroup);
        assert_eq!(
            named("/lxc.payload.web/system.slice/nginx.service"),
            Some("web")
        );
        assert_eq!(
            named("/machine.slice/machine-deb\\x2d13.scope"),
            Some("deb\\x2d13")
        );
        assert_eq!(
            named("/machine.slice/systemd-nspawn@web.service/payload"),
            Some("web")
        );
    }

    #[test]
    fn what_is_no_container_is_none() {
        for cgroup in [
            "/",
            "/system.slice/nginx.service",
            "/user.slice/user-1000.slice/session-3.scope",
            "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope",
            // The one who watches over a container of podman's.
            "/machine.slice/libpod-conmon-ID.scope",
            "/docker/beef",
        ] {
            assert_eq!(id_of(cgroup), None, "{cgroup}");
        }
    }

    #[test]
    fn the_innermost_unit_counts() {
        for (cgroup, expected) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/db.service/worker", Some("db.service")),
            (
                "/user.slice/user-0.slice/session-3.scope",
                Some("session-3.scope"),
            ),
            (
                "/user.slice/user-1.slice/user@1.service/app.slice/a.service",
                Some("a.service"),
            ),
            ("/system.slice", None),
            ("/jobs/17", None),
            ("/", None),
        ] {
            assert_eq!(unit(cgroup), expected, "{cgroup}");
        }
    }
}
