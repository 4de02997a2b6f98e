"""A SLURM of this machine alone, for as long as a with-block lasts: munged, slurmctld and slurmd with their files in one folder.
Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge."""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# A requeued job waits until its credential is void: two minutes, were it not for cred_expire.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 PreemptMode=REQUEUE MaxTime=INFINITE State=UP
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
"""


def missing():
    """What keeps this machine from it, in words; "" for nothing."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)}: not installed (apt-get install slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "needs root"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="dm-slurm-", dir="/run")  # munge wants no folder that others may write to
        self.processes = []
        for name in ("state", "spool"):
            os.mkdir(f"{self.folder}/{name}")
        os.chmod(self.folder, 0o755)
        self.config = f"{self.folder}/slurm.conf"
        with open(self.config, "w") as file:
            file.write(CONFIG.format(folder=self.folder, host=socket.gethostname().split(".")[0], port=free_port(),
                                     node_port=free_port()))
        with open(f"{self.folder}/munge.key", "wb", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(os.urandom(1024))
        self.environment = {**os.environ, "SLURM_CONF": self.config}
        try:
            self.start("munged", "--foreground", "--force", *(f"--{what}-file={self.folder}/munge.{what}"
                                                              for what in ("key", "pid", "log", "seed")),
                       f"--socket={self.folder}/munge.socket")
            self.wait_until(lambda: os.path.exists(f"{self.folder}/munge.socket"), 10, "munged does not start")
            self.start("slurmctld", "-D", "-f", self.config)
            self.start("slurmd", "-D", "-f", self.config)
            self.wait_until(lambda: "idle" in self.out("sinfo", "-h", "-o", "%T"), 20, "the node does not come up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *words):
        with open(f"{self.folder}/{words[0]}.out", "wb") as out:
            self.processes.append(subprocess.Popen(words, env=self.environment, stdout=out, stderr=out))

    def out(self, *words):
        """What one of SLURM's commands prints; "" when it fails."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    def wait_until(self, condition, seconds, otherwise):
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                logs = "".join(f"--- {name}\n" + "".join(open(f"{self.folder}/{name}").readlines()[-15:])
                               for name in sorted(os.listdir(self.folder)) if name.endswith((".log", ".out")))
                raise TimeoutError(f"{otherwise} ({seconds} s)\n{logs}")
            time.sleep(0.05)
