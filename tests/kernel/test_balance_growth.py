"""Many services, and many backends of one.

client1 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b, c, d
                                                            a also has all of 10.99.0.0/20
"""

from __future__ import annotations

from tests.kernel.support import apply, in_force, seen, status

FARM = '[service.web]\nlisten = "192.0.2.10:80"\n' + "".join(
    f'backend.{name}.address = "192.168.1.1{number}:8080"\n' for number, name in enumerate("abcd")
)


def services(count: int, weight: int = 1) -> str:
    """Each on a port of its own, from 10000 on; the weight is that of the last one's `a`."""
    text = []
    for number in range(count):
        heavy = weight if number == count - 1 else 1
        text.append(f'[service.s{number:05}]\nlisten = "192.0.2.10:{10000 + number}"\n')
        text.append(f'backend.a = {{ address = "192.168.1.10:8080", weight = {heavy} }}\n')
        text += [f'backend.{name}.address = "192.168.1.1{n}:8080"\n' for n, name in enumerate("bcd", 1)]
    return "".join(text)


def test_ten_thousand_services_apply_and_run():
    with in_force(FARM) as lab:
        assert "In force: 10,000 services" in apply(lab, services(10_000))
        for port in (10_000, 12_345, 17_777, 19_999):
            assert lab.fetch(f"192.0.2.10:{port}", 40).answers == dict.fromkeys("abcd", 10)
        assert list(lab.fetch("192.0.2.10:20000", 2).failures) == ["refused"]
        with lab.clients[0].hold("192.0.2.10:19999", 20) as holding:
            assert "1 changed" in apply(lab, services(10_000, weight=5))
            assert lab.fetch("192.0.2.10:19999", 80).answers == {"a": 50, "b": 10, "c": 10, "d": 10}
            assert lab.fetch("192.0.2.10:19998", 40).answers == dict.fromkeys("abcd", 10)
            assert (holding.report().open, holding.report().moved) == (20, 0)
        assert len(status(lab)["services"]) == 10_000


def test_one_service_with_a_thousand_backends():
    with in_force(FARM) as lab:
        lab.director.run("ip", "route", "add", "10.99.0.0/20", "via", lab.host("a").address(4))
        lab.host("a").run("ip", "route", "add", "local", "10.99.0.0/20", "dev", "lo")
        for schedule, count in (("round-robin", 2048), ("source-hash", 62)):
            text = f'[service.web]\nlisten = "192.0.2.10:80"\nschedule = "{schedule}"\n'
            for number in range(1024):
                text += f'backend.b{number:04}.address = "10.99.{number // 250}.{1 + number % 250}:8080"\n'
            apply(lab, text)
            assert lab.fetch("192.0.2.10:80", count, source="198.51.100.64/26").answers == {"a": count}
            backends = seen(lab, "web")["backends"]
            assert len(backends) == 1024
            got = sorted(b["connections"] for b in backends.values())
            if schedule == "round-robin":
                assert got == [2] * 1024
            else:
                assert sum(got) == 2048 + 62
                assert sum(connections > 2 for connections in got) > 40
