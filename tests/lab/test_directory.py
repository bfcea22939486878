"""Users and groups of the host's own system log in, by real PAM and its real name service, with the roles of subjects."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.running import RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(90)]

PAM = Path(__file__).parents[2] / "packaging/pam.d/poolnet-directory"
# The lab's /etc is made of links into the machine's, which nobody may write.
PEOPLE = f"""
for name in passwd group shadow; do cp --remove-destination $(readlink -f /etc/$name) /etc/$name; done
real=$(readlink -f /etc/pam.d); rm /etc/pam.d; cp -r "$real" /etc/pam.d
cat > /etc/pam.d/poolnet-directory <<'END'
{PAM.read_text()}
END
hash=$(openssl passwd -6 right)
echo 'netops:x:5000:alice' >> /etc/group
for user in alice:5001 bob:5002; do
    echo "${{user%:*}}:x:${{user#*:}}:5002::/:/bin/sh" >> /etc/passwd
    echo "${{user%:*}}:$hash:19000:0:99999:7:::" >> /etc/shadow
done
"""


def refused(lab: RunningLab, *words: str) -> str:
    """What a command that must fail prints."""
    with pytest.raises(AssertionError) as failed:
        lab.run("host1", "xe", *words)
    return str(failed.value)


def test_people_of_the_system_have_the_roles_of_their_subjects(lab: RunningLab) -> None:
    lab.run("host1", "bash", "-ec", PEOPLE)
    address = lab.xe("host1", "host-list", "params=address", "--minimal")
    alice, bob = (("-s", address, "-u", name, "-pw", "right") for name in ("alice", "bob"))
    lab.xe("host1", "pool-enable-external-auth", "auth-type=PAM", "service-name=lab")
    subject = lab.xe("host1", "subject-add", "subject-name=netops")
    assert "subject-identifier ( RO): g5000" in lab.xe("host1", "subject-list")
    lab.xe("host1", "subject-role-add", f"uuid={subject}", "role-name=vm-admin")
    lab.xe("host1", "subject-role-remove", f"uuid={subject}", "role-name=pool-admin")

    lab.run("host1", "xe", *alice, "network-create", "name-label=hers")
    host = lab.xe("host1", "host-list", "--minimal")
    denied = refused(lab, *alice, "pif-scan", f"host-uuid={host}")
    assert "permission: pif.scan" in denied
    assert "The user may not log in here." in refused(lab, *bob, "network-list")
    assert "Authentication failed" in refused(lab, *alice[:-1], "wrong", "network-list")

    lab.xe("host1", "pool-disable-external-auth")
    assert "Authentication failed" in refused(lab, *alice, "network-list")
