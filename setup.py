from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
URL = "https://github.com/sb3-attnmem/sb3_attnmem"

setup(
    name="sb3_attnmem",
    version=(ROOT / "sb3_attnmem" / "version.txt").read_text(encoding="utf-8").strip(),
    description="Attention and memory for DQN, the Stable-Baselines3 way",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The sb3_attnmem contributors",
    license="MIT",
    url=URL,
    project_urls={
        "Documentation": "https://sb3-attnmem.readthedocs.io",
        "Source": URL,
        "Issues": f"{URL}/issues",
        "Changelog": f"{URL}/blob/main/CHANGELOG.md",
    },
    keywords="reinforcement-learning stable-baselines3 dqn drqn r2d2 recurrent memory attention pomdp pytorch",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    # The RL Zoo's settings stand at the top of the repository, easy to find, and ship inside the package.
    packages=[*find_packages(include=["sb3_attnmem", "sb3_attnmem.*"]), "sb3_attnmem.zoo_configs"],
    package_dir={"sb3_attnmem.zoo_configs": "zoo_configs"},
    package_data={
        "sb3_attnmem": ["py.typed", "version.txt"],
        "sb3_attnmem.inspection.page": ["*.html", "*.css", "*.js"],
        "sb3_attnmem.zoo_configs": ["*.yml"],
    },
    entry_points={"console_scripts": ["sb3-attnmem=sb3_attnmem.zoo.cli:main"]},
    python_requires=">=3.10",
    install_requires=[
        # Up to the newest minor version that the tests ran with: tests/test_seams.py says what we rely on
        "stable-baselines3>=2.9,<2.10",
        "sb3-contrib>=2.9,<2.10",
        "torch>=2.8,<3",
        "gymnasium>=1.1,<2",
        "ale-py>=0.11.1",
        "optuna>=4.9,<6",
        "tqdm>=4.66",
        "rich>=13.7",
        "psutil>=5.9",
        "filelock>=3.13",  # two processes that resume one run
    ],
    extras_require={
        "plots": ["matplotlib>=3.9"],
        "zoo": [
            "rl_zoo3>=2.9,<2.10",
            "requests>=2.32",
            "seaborn>=0.13",  # plot-eval
            "pandas>=2.3",
            "matplotlib>=3.9",
            "tensorboard>=2.18",
            "moviepy>=2.1",
            "plotly>=6",
            "opencv-python-headless>=4.11",  # SB3's AtariWrapper resizes its frames with it
            "scipy>=1.15",  # the Wilcoxon pruner
        ],
        "export": ["onnx>=1.17", "onnxscript>=0.7.2", "onnxruntime>=1.20"],
        "transfer": ["peft>=0.21", "safetensors>=0.8", "minari[hdf5]>=0.5.4", "seqeval>=1.2"],
        "distributed": ["psycopg[binary]>=3.2", "grpcio>=1.66", "protobuf>=5.27"],
        "ray": ["ray>=2.40; python_version < '3.14'"],  # many actors; its wheels follow new Pythons late
        "memory-tasks": [
            "popgym==1.0.7",
            "mazelib==0.9.16; python_version < '3.14'",  # popgym does without, less its mazes
            "minigrid>=3",
            "box2d>=2.3.10; python_version < '3.14'",  # LunarLander
        ],
        "tests": [
            "pytest>=8",
            "minari[create]>=0.5.4",  # its collector, with which a test records
            "pytest-xdist>=3.6",
            "ruff>=0.17",
            "mypy>=2.4",
            "build>=1.2",
            "types-psutil>=7",
            "types-PyYAML>=6",
            "types-tqdm>=4.67",
        ],
        "docs": ["sphinx>=7,<10", "sphinx-rtd-theme>=3", "sphinx-copybutton>=0.5.2", "myst-parser>=4,<6"],
    },
)
