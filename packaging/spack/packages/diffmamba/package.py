# Spack's recipe: spack repo add packaging/spack && spack install diffmamba+cuda cuda_arch=90a
from spack.package import *


class Diffmamba(CMakePackage, CudaPackage):
    """Trainer for Differential Mamba language models: C++20, LibTorch, CUDA, MPI, HDF5."""

    maintainers = []
    license("Apache-2.0")
    version("main")  # of the tree this file is in: spack develop -p /path/to/diffmamba diffmamba@main

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.25:", type="build")
    depends_on("ninja", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("boost@1.74: +program_options")
    depends_on("fmt")
    depends_on("hdf5@1.10: ~mpi")
    depends_on("mpi")
    depends_on("nlohmann-json@3.11:")
    depends_on("pcre2")
    depends_on("sentencepiece")
    depends_on("spdlog +shared fmt_external=True")
    depends_on("utf8proc")
    depends_on("xxhash")
    depends_on("zlib-api")
    depends_on("zstd")
    depends_on("py-torch@2.11: ~cuda", when="~cuda")
    depends_on("py-torch@2.11: +cuda+nccl", when="+cuda")
    depends_on("cuda@13:", when="+cuda")
    depends_on("nccl@2.28:", when="+cuda")
    conflicts("cuda_arch=none", when="+cuda", msg="the kernels are made for one GPU architecture: cuda_arch=90a")

    def cmake_args(self):
        torch = join_path(self.spec["py-torch"].prefix, self.spec["python"].package.platlib, "torch")
        args = [
            self.define("DM_TORCH_DIR", torch),
            self.define("DM_TESTS", False),
            self.define_from_variant("DM_CUDA", "cuda"),
        ]
        if self.spec.satisfies("+cuda"):
            args.append(self.define("CMAKE_CUDA_ARCHITECTURES", self.spec.variants["cuda_arch"].value[0] + "-real"))
            args.append(self.define("DM_NCCL_INCLUDE_DIR", self.spec["nccl"].prefix.include))
            args.append(self.define("DM_NCCL_LIBRARY", self.spec["nccl"].libs[0]))
        return args
