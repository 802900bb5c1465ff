//! SecondFactorsService.

use jiff::Timestamp;
use proto::identity::v1::disable_totp_request::Factor as WireFactor;
use proto::identity::v1::second_factors_service_server::SecondFactorsService;
use proto::identity::v1::{
    ConfirmTotpRequest, ConfirmTotpResponse, DisableTotpRequest, DisableTotpResponse,
    EnrollTotpRequest, EnrollTotpResponse, ReplaceRecoveryCodesRequest,
    ReplaceRecoveryCodesResponse,
};
use rand::TryRng as _;
use rand::rngs::SysRng;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::now_in_micros;
use super::sessions::factor_missing;
use super::users::answered;
use crate::accounts::{Accounts, me};
use crate::domain::limit::OF_FACTOR;
use crate::domain::{Factor, recovery, totp};
use crate::identified::Identified;
use crate::store::{Answer, Failure};

#[tonic::async_trait]
impl SecondFactorsService for Accounts {
    async fn enroll_totp(
        &self,
        request: Request<EnrollTotpRequest>,
    ) -> Result<Response<EnrollTotpResponse>, Status> {
        let message = request.get_ref();
        let me = me(&request, "name", &message.name)?;
        let id = self.identified(me.user.uuid(), &message.request_id, "EnrollTotp", message)?;
        let enrolled = async {
            let now = now_in_micros();
            let user = self.proved_again(me, &message.password, &request, now).await?;
            let mut secret = Zeroizing::new([0; totp::SECRET_BYTES]);
            SysRng.try_fill_bytes(secret.as_mut_slice()).map_err(entropy)?;
            let response = EnrollTotpResponse {
                secret: totp::base32(secret.as_slice()),
                uri: totp::uri(secret.as_slice(), user.email.as_str()),
            };
            let answer = answer(&id, now, response);
            self.store.begin_totp(user.id, secret.as_slice(), answer).await
        };
        answered(enrolled.await)
    }

    async fn confirm_totp(
        &self,
        request: Request<ConfirmTotpRequest>,
    ) -> Result<Response<ConfirmTotpResponse>, Status> {
        let message = request.get_ref();
        let me = me(&request, "name", &message.name)?;
        let id = self.identified(me.user.uuid(), &message.request_id, "ConfirmTotp", message)?;
        let confirmed = async {
            let now = now_in_micros();
            self.store.attempt(OF_FACTOR, me.user.as_bytes(), now).await?;
            let codes = recovery_codes()?;
            let response = ConfirmTotpResponse { recovery_codes: codes.clone() };
            let answer = answer(&id, now, response);
            let confirmed = self.store.confirm_totp(me.user, &message.totp_code, &codes, answer);
            let response = confirmed.await?;
            self.store.forgive(OF_FACTOR, me.user.as_bytes()).await?;
            Ok(response)
        };
        answered(confirmed.await)
    }

    async fn disable_totp(
        &self,
        request: Request<DisableTotpRequest>,
    ) -> Result<Response<DisableTotpResponse>, Status> {
        let message = request.get_ref();
        let me = me(&request, "name", &message.name)?;
        let id = self.identified(me.user.uuid(), &message.request_id, "DisableTotp", message)?;
        let disabled = async {
            let now = now_in_micros();
            let factor = match message.factor.clone() {
                Some(WireFactor::TotpCode(code)) => Factor::Totp(code),
                Some(WireFactor::RecoveryCode(code)) => Factor::Recovery(code),
                None => return Err(factor_missing()),
            };
            self.store.attempt(OF_FACTOR, me.user.as_bytes(), now).await?;
            let answer = answer(&id, now, DisableTotpResponse {});
            let disabled = self.store.disable_totp(me.user, &factor, answer).await;
            let response = self.noted(me.user, disabled, now)?;
            self.store.forgive(OF_FACTOR, me.user.as_bytes()).await?;
            Ok(response)
        };
        answered(disabled.await)
    }

    async fn replace_recovery_codes(
        &self,
        request: Request<ReplaceRecoveryCodesRequest>,
    ) -> Result<Response<ReplaceRecoveryCodesResponse>, Status> {
        let message = request.get_ref();
        let me = me(&request, "name", &message.name)?;
        let name = "ReplaceRecoveryCodes";
        let id = self.identified(me.user.uuid(), &message.request_id, name, message)?;
        let replaced = async {
            let now = now_in_micros();
            self.store.attempt(OF_FACTOR, me.user.as_bytes(), now).await?;
            let codes = recovery_codes()?;
            let factor = Factor::Totp(message.totp_code.clone());
            let response = ReplaceRecoveryCodesResponse { recovery_codes: codes.clone() };
            let answer = answer(&id, now, response);
            let replaced =
                self.store.replace_recovery_codes(me.user, &factor, &codes, answer).await;
            let response = self.noted(me.user, replaced, now)?;
            self.store.forgive(OF_FACTOR, me.user.as_bytes()).await?;
            Ok(response)
        };
        answered(replaced.await)
    }
}

fn answer<R>(id: &Identified, now: Timestamp, response: R) -> Answer<'_, R> {
    Answer { request: id.as_request(), now, response }
}

fn recovery_codes() -> Result<Vec<String>, Failure> {
    let codes = (0..recovery::CODES).map(|_| {
        let mut random = [0; recovery::CODE_BYTES];
        SysRng.try_fill_bytes(&mut random).map_err(entropy)?;
        Ok(recovery::code(random))
    });
    codes.collect()
}

fn entropy(error: impl std::fmt::Display) -> Failure {
    Failure::Sealed(format!("no random bytes: {error}"))
}
