"""What other schedulers need to run a sweep: a RayJob for KubeRay, a batch script for Slurm."""

from __future__ import annotations

from pathlib import Path
from string import Template

from coldfleet.cluster.execution.ray_jobs import SWEEP, job_command
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError

_KUBERAY = Template("""\
# kubectl apply -f THIS_FILE. KubeRay 1.5 or newer; an image that has Ray and coldfleet; a service account or
# Secret with the credentials for $out.
# Submitting a RayJob twice, or a retry, is harmless: the sweep goes on where it was.
apiVersion: v1
kind: ConfigMap
metadata:
  name: $name
data:
  study.toml: |
$study
---
apiVersion: ray.io/v1
kind: RayJob
metadata:
  name: $name
spec:
  entrypoint: $entrypoint
  submissionMode: K8sJobMode
  backoffLimit: 3
  shutdownAfterJobFinishes: true
  ttlSecondsAfterFinished: 600
  rayClusterSpec:
    authOptions:
      mode: token
    headGroupSpec:
      rayStartParams:
        num-cpus: "0"
      template:
        spec:
          containers:
            - name: ray-head
              image: $image
              env: [{name: RAY_USAGE_STATS_ENABLED, value: "0"}]
              resources:
                limits: {cpu: "2", memory: 4Gi}
              volumeMounts: [{name: study, mountPath: /study}]
          volumes:
            - name: study
              configMap: {name: $name}
    workerGroupSpecs:
      - groupName: workers
        replicas: $nodes
        minReplicas: 1
        maxReplicas: $nodes
        rayStartParams: {}
        template:
          spec:
            containers:
              - name: ray-worker
                image: $image
                env: [{name: RAY_USAGE_STATS_ENABLED, value: "0"}]
                resources:
                  limits: {cpu: "8", memory: 16Gi}
""")
_SLURM = Template("""\
#!/bin/bash
# sbatch THIS_FILE. The same script again, or a requeue, goes on where it was. Nodes are exclusive, because
# symmetric-run stops every Ray on a node when it ends.
#SBATCH --job-name=$name
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
set -euo pipefail
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$$(python -c 'import secrets; print(secrets.token_hex(32))')  # a token of this job's own
export RAY_AUTH_TOKEN
head=$$(scontrol show hostnames "$$SLURM_JOB_NODELIST" | head -n 1)
address="$$head:$$((20000 + SLURM_JOB_ID % 20000))"  # no other job's port
srun --nodes="$$SLURM_JOB_NUM_NODES" --ntasks="$$SLURM_JOB_NUM_NODES" \\
  ray symmetric-run --address "$$address" --min-nodes "$$SLURM_JOB_NUM_NODES" \\
  --temp-dir "/tmp/ray-$$SLURM_JOB_ID" -- \\
  $command --address "$$address"
""")


def kuberay(study: Path, where: str, nodes: int, workers: int | None, image: str, ask: str = SWEEP) -> str:
    """A ConfigMap with the study and a RayJob with so many worker nodes, as YAML."""
    plan = read_study(study)
    if local := [name for name in plan.data if "://" not in name]:
        raise UserError(f"{local[0]} is too large for a ConfigMap: put it where the cluster sees it, and name its URI")
    text = "\n".join(f"    {line}" if line else "" for line in study.read_text().splitlines())
    return _KUBERAY.substitute(
        name=_dns_name(plan.name if ask == SWEEP else f"{ask.split()[0]}-{plan.name}"),
        study=text,
        entrypoint=job_command("/study/study.toml", where, "auto", workers, ask),
        out=where,
        nodes=nodes,
        image=image,
    )


def slurm(study: Path, where: str, nodes: int, workers: int | None, ask: str = SWEEP) -> str:
    """A script for sbatch on so many nodes; the study's path has to be the same on all of them."""
    plan = read_study(study)
    command = job_command(str(study.absolute()), where, None, workers, ask)
    return _SLURM.substitute(name=_dns_name(plan.name), nodes=nodes, command=command)


def _dns_name(name: str) -> str:
    """A name that Kubernetes takes: lower-case letters, digits and dashes."""
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    return f"coldfleet-{kept}"[:50].strip("-")
