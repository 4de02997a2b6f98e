#!/usr/bin/env python3
"""Bus bandwidth of plain NCCL reduce-scatter and all-gather through torch.distributed, as nccl-tests computes it:
(ranks - 1) / ranks * bytes / time. plain_nccl.py RANKS MIB"""
import json
import os
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def worker(rank, ranks, mib):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511", NCCL_NVLS_ENABLE="0")
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=ranks, device_id=torch.device("cuda", rank))
    count = mib * 2**18 // ranks * ranks
    whole = torch.ones(count, device="cuda")
    piece = torch.empty(count // ranks, device="cuda")
    result = {"ranks": ranks, "mib": count / 2**18, "nccl": ".".join(map(str, torch.cuda.nccl.version()))}
    for name, work in (("reduce_scatter", lambda: dist.reduce_scatter_tensor(piece, whole)),
                       ("all_gather", lambda: dist.all_gather_into_tensor(whole, piece))):
        times = []
        for i in range(-2, 20):
            torch.cuda.synchronize()
            dist.barrier()
            torch.cuda.synchronize()
            begin = time.perf_counter()
            work()
            torch.cuda.synchronize()
            slowest = torch.tensor(time.perf_counter() - begin, device="cuda")
            dist.all_reduce(slowest, dist.ReduceOp.MAX)
            if i >= 0:
                times.append(slowest.item())
        median = sorted(times)[len(times) // 2]
        result[name] = {"ms": median * 1e3, "bus_gb_s": 4 * count * (ranks - 1) / ranks / median * 1e-9}
    if rank == 0:
        print(json.dumps(result, indent=2))
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(worker, (int(sys.argv[1]), int(sys.argv[2])), nprocs=int(sys.argv[1]))
