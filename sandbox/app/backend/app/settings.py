from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

VERSION = "4.0.0"


class Settings(BaseSettings):
    """From the environment, else from backend/.env."""

    model_config = SettingsConfigDict(env_file=Path(__file__).resolve().parents[1] / ".env", extra="ignore")

    database_url: str = "postgresql://sparklio_user@127.0.0.1:5432/sparklio_v4"
    redis_url: str = "redis://127.0.0.1:6379/0"
    s3_endpoint: str = "http://127.0.0.1:9000"
    s3_access_key: str = ""
    s3_secret_key: str = ""
    s3_bucket: str = "sparklio-assets"
    s3_region: str = "us-east-1"
    ollama_url: str = ""
    ollama_model: str = "qwen2.5:7b"
    comfyui_url: str = ""
    agent_timeout_seconds: float = 10.0

    @property
    def sqlalchemy_url(self) -> str:
        _, _, rest = self.database_url.partition("://")
        return f"postgresql+psycopg://{rest}"


settings = Settings()
