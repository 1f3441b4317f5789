from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="sb3_attnmem",
    version=(ROOT / "sb3_attnmem" / "version.txt").read_text(encoding="utf-8").strip(),
    description="Attention and memory for DQN, the Stable-Baselines3 way",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The sb3_attnmem contributors",
    license="MIT",
    keywords="reinforcement-learning stable-baselines3 dqn drqn r2d2 recurrent memory attention pomdp pytorch",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    # The RL Zoo's settings stand at the top of the repository, easy to find, and ship inside the package.
    packages=[*find_packages(include=["sb3_attnmem", "sb3_attnmem.*"]), "sb3_attnmem.zoo_configs"],
    package_dir={"sb3_attnmem.zoo_configs": "zoo_configs"},
    package_data={"sb3_attnmem": ["py.typed", "version.txt"], "sb3_attnmem.zoo_configs": ["*.yml"]},
    entry_points={"console_scripts": ["sb3-attnmem=sb3_attnmem.zoo.cli:main"]},
    python_requires=">=3.10",
    install_requires=[
        "stable-baselines3>=2.9,<3",
        "sb3-contrib>=2.9,<3",
        "torch>=2.8,<3",
        "gymnasium>=1.0,<2",
        "ale-py>=0.11.1",
        "optuna>=4.9,<6",
        "tqdm",
        "rich",
        "psutil",
    ],
    extras_require={
        "zoo": [
            "rl_zoo3>=2.9,<3",
            "requests",
            "seaborn",  # plot-eval
            "pandas",
            "matplotlib",
            "tensorboard",
            "moviepy",
            "plotly",
            "opencv-python-headless",  # SB3's AtariWrapper resizes its frames with it
            "scipy",  # the Wilcoxon pruner
        ],
        "export": ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"],
        "transfer": ["peft>=0.21", "safetensors>=0.8", "minari[hdf5]>=0.5.4", "seqeval>=1.2"],
        "distributed": ["psycopg[binary]>=3.2", "grpcio", "protobuf"],
        "memory-tasks": [
            "popgym==1.0.7",
            "mazelib==0.9.16; python_version < '3.14'",  # popgym does without, less its mazes
            "minigrid>=3",
            "box2d>=2.3.10; python_version < '3.14'",  # LunarLander
        ],
        "tests": [
            "pytest>=8",
            "minari[create]",  # its collector, with which a test records
            "pytest-xdist",
            "ruff",
            "mypy",
            "build",
            "types-psutil",
            "types-PyYAML",
            "types-tqdm",
        ],
        "docs": ["sphinx>=7,<10", "sphinx-rtd-theme>=3", "sphinx-copybutton", "myst-parser>=4,<6"],
    },
)
