//! The part of OpenFX's C interface that the effect uses, declared from the standard (API 1.5).
//!
//! Every function of a host's suite is an `Option`: hosts leave some of them NULL.

use std::ffi::{CStr, c_char, c_double, c_float, c_int, c_uint, c_void};

pub type Status = c_int;

pub const OK: Status = 0;
pub const FAILED: Status = 1;
pub const ERR_MISSING_HOST_FEATURE: Status = 6;
pub const REPLY_DEFAULT: Status = 14;

/// An opaque handle of the host's, with a type of its own.
macro_rules! handle {
    ($name:ident) => {
        #[repr(transparent)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name(pub *mut c_void);

        impl $name {
            #[allow(dead_code)]
            pub fn null() -> Self {
                Self(std::ptr::null_mut())
            }

            #[allow(dead_code)]
            pub fn is_null(self) -> bool {
                self.0.is_null()
            }
        }
    };
}

handle!(PropertySetHandle);
handle!(EffectHandle);
handle!(ClipHandle);
handle!(ParamSetHandle);
handle!(ParamHandle);
handle!(InteractHandle);

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RectD {
    pub x1: c_double,
    pub y1: c_double,
    pub x2: c_double,
    pub y2: c_double,
}

#[repr(C)]
pub struct Host {
    pub host: PropertySetHandle,
    pub fetch_suite: Option<unsafe extern "C" fn(PropertySetHandle, *const c_char, c_int) -> *const c_void>,
}

pub type MainEntry = unsafe extern "C" fn(*const c_char, *const c_void, PropertySetHandle, PropertySetHandle) -> Status;

#[repr(C)]
pub struct Plugin {
    pub api: *const c_char,
    pub api_version: c_int,
    pub identifier: *const c_char,
    pub version_major: c_uint,
    pub version_minor: c_uint,
    pub set_host: Option<unsafe extern "C" fn(*mut Host)>,
    pub main_entry: Option<MainEntry>,
}

// The pointers are to static strings.
unsafe impl Sync for Plugin {}

type PropSet<T> = Option<unsafe extern "C" fn(PropertySetHandle, *const c_char, c_int, T) -> Status>;
type PropGet<T> = Option<unsafe extern "C" fn(PropertySetHandle, *const c_char, c_int, *mut T) -> Status>;

#[repr(C)]
pub struct PropertySuite {
    pub set_pointer: PropSet<*mut c_void>,
    pub set_string: PropSet<*const c_char>,
    pub set_double: PropSet<c_double>,
    pub set_int: PropSet<c_int>,
    pub set_pointer_n: PropSet<*const *mut c_void>,
    pub set_string_n: PropSet<*const *const c_char>,
    pub set_double_n: PropSet<*const c_double>,
    pub set_int_n: PropSet<*const c_int>,
    pub get_pointer: PropGet<*mut c_void>,
    pub get_string: PropGet<*mut c_char>,
    pub get_double: PropGet<c_double>,
    pub get_int: PropGet<c_int>,
    pub get_pointer_n: PropGet<*mut c_void>,
    pub get_string_n: PropGet<*mut c_char>,
    pub get_double_n: PropGet<c_double>,
    pub get_int_n: PropGet<c_int>,
    pub reset: Option<unsafe extern "C" fn(PropertySetHandle, *const c_char) -> Status>,
    pub get_dimension: Option<unsafe extern "C" fn(PropertySetHandle, *const c_char, *mut c_int) -> Status>,
}

#[repr(C)]
pub struct ImageEffectSuite {
    pub get_property_set: Option<unsafe extern "C" fn(EffectHandle, *mut PropertySetHandle) -> Status>,
    pub get_param_set: Option<unsafe extern "C" fn(EffectHandle, *mut ParamSetHandle) -> Status>,
    pub clip_define: Option<unsafe extern "C" fn(EffectHandle, *const c_char, *mut PropertySetHandle) -> Status>,
    pub clip_get_handle:
        Option<unsafe extern "C" fn(EffectHandle, *const c_char, *mut ClipHandle, *mut PropertySetHandle) -> Status>,
    pub clip_get_property_set: Option<unsafe extern "C" fn(ClipHandle, *mut PropertySetHandle) -> Status>,
    pub clip_get_image:
        Option<unsafe extern "C" fn(ClipHandle, c_double, *const RectD, *mut PropertySetHandle) -> Status>,
    pub clip_release_image: Option<unsafe extern "C" fn(PropertySetHandle) -> Status>,
    pub clip_get_region_of_definition: Option<unsafe extern "C" fn(ClipHandle, c_double, *mut RectD) -> Status>,
    pub abort: Option<unsafe extern "C" fn(EffectHandle) -> c_int>,
    pub image_memory_alloc: Option<unsafe extern "C" fn(EffectHandle, usize, *mut *mut c_void) -> Status>,
    pub image_memory_free: Option<unsafe extern "C" fn(*mut c_void) -> Status>,
    pub image_memory_lock: Option<unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> Status>,
    pub image_memory_unlock: Option<unsafe extern "C" fn(*mut c_void) -> Status>,
}

#[repr(C)]
pub struct ParameterSuite {
    pub define:
        Option<unsafe extern "C" fn(ParamSetHandle, *const c_char, *const c_char, *mut PropertySetHandle) -> Status>,
    pub get_handle:
        Option<unsafe extern "C" fn(ParamSetHandle, *const c_char, *mut ParamHandle, *mut PropertySetHandle) -> Status>,
    pub set_get_property_set: Option<unsafe extern "C" fn(ParamSetHandle, *mut PropertySetHandle) -> Status>,
    pub get_property_set: Option<unsafe extern "C" fn(ParamHandle, *mut PropertySetHandle) -> Status>,
    pub get_value: Option<unsafe extern "C" fn(ParamHandle, ...) -> Status>,
    pub get_value_at_time: Option<unsafe extern "C" fn(ParamHandle, c_double, ...) -> Status>,
    pub get_derivative: Option<unsafe extern "C" fn(ParamHandle, c_double, ...) -> Status>,
    pub get_integral: Option<unsafe extern "C" fn(ParamHandle, c_double, c_double, ...) -> Status>,
    pub set_value: Option<unsafe extern "C" fn(ParamHandle, ...) -> Status>,
    pub set_value_at_time: Option<unsafe extern "C" fn(ParamHandle, c_double, ...) -> Status>,
    pub get_num_keys: Option<unsafe extern "C" fn(ParamHandle, *mut c_uint) -> Status>,
    pub get_key_time: Option<unsafe extern "C" fn(ParamHandle, c_uint, *mut c_double) -> Status>,
    pub get_key_index: Option<unsafe extern "C" fn(ParamHandle, c_double, c_int, *mut c_int) -> Status>,
    pub delete_key: Option<unsafe extern "C" fn(ParamHandle, c_double) -> Status>,
    pub delete_all_keys: Option<unsafe extern "C" fn(ParamHandle) -> Status>,
    pub copy: Option<unsafe extern "C" fn(ParamHandle, ParamHandle, c_double, *const c_void) -> Status>,
    pub edit_begin: Option<unsafe extern "C" fn(ParamSetHandle, *const c_char) -> Status>,
    pub edit_end: Option<unsafe extern "C" fn(ParamSetHandle) -> Status>,
}

/// Version 1; version 2's `start` takes one string more, which one of version 1 does not look at.
#[repr(C)]
pub struct ProgressSuite {
    pub start: Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> Status>,
    pub update: Option<unsafe extern "C" fn(*mut c_void, c_double) -> Status>,
    pub end: Option<unsafe extern "C" fn(*mut c_void) -> Status>,
}

#[repr(C)]
pub struct TimeLineSuite {
    pub get_time: Option<unsafe extern "C" fn(*mut c_void, *mut c_double) -> Status>,
    pub goto_time: Option<unsafe extern "C" fn(*mut c_void, c_double) -> Status>,
    pub get_time_bounds: Option<unsafe extern "C" fn(*mut c_void, *mut c_double, *mut c_double) -> Status>,
}

#[repr(C)]
pub struct InteractSuite {
    pub swap_buffers: Option<unsafe extern "C" fn(InteractHandle) -> Status>,
    pub redraw: Option<unsafe extern "C" fn(InteractHandle) -> Status>,
    pub get_property_set: Option<unsafe extern "C" fn(InteractHandle, *mut PropertySetHandle) -> Status>,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PointD {
    pub x: c_double,
    pub y: c_double,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RgbaColour {
    pub r: c_float,
    pub g: c_float,
    pub b: c_float,
    pub a: c_float,
}

/// `kOfxStandardColourOverlayActive` and `kOfxDrawPrimitiveLines`.
pub const STANDARD_COLOUR_ACTIVE: c_int = 1;
pub const DRAW_LINES: c_int = 0;

#[repr(C)]
pub struct DrawSuite {
    pub get_colour: Option<unsafe extern "C" fn(*mut c_void, c_int, *mut RgbaColour) -> Status>,
    pub set_colour: Option<unsafe extern "C" fn(*mut c_void, *const RgbaColour) -> Status>,
    pub set_line_width: Option<unsafe extern "C" fn(*mut c_void, c_float) -> Status>,
    pub set_line_stipple: Option<unsafe extern "C" fn(*mut c_void, c_int) -> Status>,
    pub draw: Option<unsafe extern "C" fn(*mut c_void, c_int, *const PointD, c_int) -> Status>,
    pub draw_text: Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const PointD, c_int) -> Status>,
}

/// Version 2 of the message suite. `message` and `set_persistent` take printf arguments after the format.
#[repr(C)]
pub struct MessageSuite {
    pub message: Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, *const c_char, ...) -> Status>,
    pub set_persistent:
        Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, *const c_char, ...) -> Status>,
    pub clear_persistent: Option<unsafe extern "C" fn(*mut c_void) -> Status>,
}

/// The standard's names, as C strings.
pub mod name {
    use super::CStr;

    macro_rules! names {
        ($($name:ident = $value:literal;)*) => { $(pub const $name: &CStr = $value;)* };
    }

    names! {
        PLUGIN_API = c"OfxImageEffectPluginAPI";

        SUITE_PROPERTY = c"OfxPropertySuite";
        SUITE_IMAGE_EFFECT = c"OfxImageEffectSuite";
        SUITE_PARAMETER = c"OfxParameterSuite";
        SUITE_PROGRESS = c"OfxProgressSuite";
        SUITE_TIME_LINE = c"OfxTimeLineSuite";
        SUITE_INTERACT = c"OfxInteractSuite";
        SUITE_DRAW = c"OfxDrawSuite";
        SUITE_MESSAGE = c"OfxMessageSuite";
        MESSAGE_ERROR = c"OfxMessageError";

        ACTION_LOAD = c"OfxActionLoad";
        ACTION_UNLOAD = c"OfxActionUnload";
        ACTION_DESCRIBE = c"OfxActionDescribe";
        ACTION_DESCRIBE_IN_CONTEXT = c"OfxImageEffectActionDescribeInContext";
        ACTION_CREATE_INSTANCE = c"OfxActionCreateInstance";
        ACTION_DESTROY_INSTANCE = c"OfxActionDestroyInstance";
        ACTION_INSTANCE_CHANGED = c"OfxActionInstanceChanged";
        ACTION_SYNC_PRIVATE_DATA = c"OfxActionSyncPrivateData";
        ACTION_PURGE_CACHES = c"OfxActionPurgeCaches";
        ACTION_BEGIN_SEQUENCE_RENDER = c"OfxImageEffectActionBeginSequenceRender";
        ACTION_END_SEQUENCE_RENDER = c"OfxImageEffectActionEndSequenceRender";
        ACTION_RENDER = c"OfxImageEffectActionRender";
        ACTION_IS_IDENTITY = c"OfxImageEffectActionIsIdentity";
        ACTION_OUTPUT_COLOURSPACE = c"OfxImageEffectActionGetOutputColourspace";
        ACTION_REGION_OF_DEFINITION = c"OfxImageEffectActionGetRegionOfDefinition";
        ACTION_CLIP_PREFERENCES = c"OfxImageEffectActionGetClipPreferences";

        CONTEXT_FILTER = c"OfxImageEffectContextFilter";
        CONTEXT_GENERAL = c"OfxImageEffectContextGeneral";

        COMPONENT_RGBA = c"OfxImageComponentRGBA";
        COMPONENT_RGB = c"OfxImageComponentRGB";
        COMPONENT_ALPHA = c"OfxImageComponentAlpha";
        DEPTH_BYTE = c"OfxBitDepthByte";
        DEPTH_SHORT = c"OfxBitDepthShort";
        DEPTH_HALF = c"OfxBitDepthHalf";
        DEPTH_FLOAT = c"OfxBitDepthFloat";
        PREMULTIPLIED = c"OfxImageAlphaPremultiplied";

        PROP_NAME = c"OfxPropName";
        OVERLAY_V2 = c"OfxImageEffectPluginPropOverlayInteractV2";
        ACTION_DRAW = c"OfxInteractActionDraw";
        ACTION_PEN_DOWN = c"OfxInteractActionPenDown";
        ACTION_PEN_MOTION = c"OfxInteractActionPenMotion";
        ACTION_PEN_UP = c"OfxInteractActionPenUp";
        PROP_EFFECT_INSTANCE = c"OfxPropEffectInstance";
        PEN_POSITION = c"OfxInteractPropPenPosition";
        PIXEL_SCALE = c"OfxInteractPropPixelScale";
        DRAW_CONTEXT = c"OfxInteractPropDrawContext";
        PROP_ICON = c"OfxPropIcon";
        PROP_VERSION = c"OfxPropVersion";
        PROP_VERSION_LABEL = c"OfxPropVersionLabel";
        PROP_LABEL = c"OfxPropLabel";
        PROP_SHORT_LABEL = c"OfxPropShortLabel";
        PROP_LONG_LABEL = c"OfxPropLongLabel";
        PROP_DESCRIPTION = c"OfxPropPluginDescription";
        PROP_TIME = c"OfxPropTime";
        PROP_CHANGE_REASON = c"OfxPropChangeReason";
        PROP_TYPE = c"OfxPropType";
        PROP_INSTANCE_DATA = c"OfxPropInstanceData";

        GROUPING = c"OfxImageEffectPluginPropGrouping";
        SUPPORTED_CONTEXTS = c"OfxImageEffectPropSupportedContexts";
        SUPPORTED_DEPTHS = c"OfxImageEffectPropSupportedPixelDepths";
        SUPPORTED_COMPONENTS = c"OfxImageEffectPropSupportedComponents";
        SUPPORTS_TILES = c"OfxImageEffectPropSupportsTiles";
        SUPPORTS_MULTI_RESOLUTION = c"OfxImageEffectPropSupportsMultiResolution";
        TEMPORAL_ACCESS = c"OfxImageEffectPropTemporalClipAccess";
        THREAD_SAFETY = c"OfxImageEffectPluginRenderThreadSafety";
        FULLY_SAFE = c"OfxImageEffectRenderFullySafe";
        HOST_FRAME_THREADING = c"OfxImageEffectPluginPropHostFrameThreading";
        CONTEXT = c"OfxImageEffectPropContext";
        FRAME_VARYING = c"OfxImageEffectFrameVarying";
        FRAME_RANGE = c"OfxImageEffectPropFrameRange";
        FRAME_RATE = c"OfxImageEffectPropFrameRate";
        PIXEL_DEPTH = c"OfxImageEffectPropPixelDepth";
        COMPONENTS = c"OfxImageEffectPropComponents";
        PREMULTIPLICATION = c"OfxImageEffectPropPreMultiplication";
        RENDER_SCALE = c"OfxImageEffectPropRenderScale";
        REGION_OF_DEFINITION = c"OfxImageEffectPropRegionOfDefinition";
        PROJECT_SIZE = c"OfxImageEffectPropProjectSize";
        PROJECT_OFFSET = c"OfxImageEffectPropProjectOffset";
        RENDER_WINDOW = c"OfxImageEffectPropRenderWindow";
        FIELD_TO_RENDER = c"OfxImageEffectPropFieldToRender";
        FIELD_LOWER = c"OfxFieldLower";
        FIELD_UPPER = c"OfxFieldUpper";
        INTERACTIVE = c"OfxImageEffectPropInteractiveRenderStatus";
        // Of DaVinci Resolve, on the instance and in a render's arguments.
        SOURCE_FILE = c"OfxImageEffectPropSrcFilePath";
        SOURCE_FRAME = c"OfxImageEffectPropSrcFrame";

        CLIP_SOURCE = c"Source";
        CLIP_OUTPUT = c"Output";
        CLIP_MATTE = c"Matte";
        CLIP_OPTIONAL = c"OfxImageClipPropOptional";
        CLIP_IS_MASK = c"OfxImageClipPropIsMask";
        CLIP_COLOURSPACE = c"OfxImageClipPropColourspace";
        COLOUR_STYLE = c"OfxImageEffectPropColourManagementStyle";
        COLOUR_CONFIGS = c"OfxImageEffectPropColourManagementAvailableConfigs";
        COLOUR_CORE = c"OfxImageEffectColourManagementCore";
        COLOUR_CONFIG_NATIVE = c"ofx-native-v1.5_aces-v1.3_ocio-v2.3";
        COLOUR_OF_SOURCE = c"OfxColourspace_Source";
        CLIP_CONNECTED = c"OfxImageClipPropConnected";

        IMAGE_DATA = c"OfxImagePropData";
        IMAGE_BOUNDS = c"OfxImagePropBounds";
        IMAGE_REGION_OF_DEFINITION = c"OfxImagePropRegionOfDefinition";
        IMAGE_PIXEL_ASPECT = c"OfxImagePropPixelAspectRatio";
        IMAGE_ROW_BYTES = c"OfxImagePropRowBytes";

        PARAM_INTEGER = c"OfxParamTypeInteger";
        PARAM_DOUBLE = c"OfxParamTypeDouble";
        PARAM_BOOLEAN = c"OfxParamTypeBoolean";
        PARAM_CHOICE = c"OfxParamTypeChoice";
        PARAM_STRING = c"OfxParamTypeString";
        PARAM_BUTTON = c"OfxParamTypePushButton";
        PARAM_GROUP = c"OfxParamTypeGroup";
        PARAM_PAGE = c"OfxParamTypePage";
        PARAM_PROP_PAGE_CHILD = c"OfxParamPropPageChild";
        NEEDS_SYNCING = c"OfxPropParamSetNeedsSyncing";
        PARAM_PROP_ANIMATES = c"OfxParamPropAnimates";
        PARAM_PROP_CHOICE_OPTION = c"OfxParamPropChoiceOption";
        PARAM_PROP_DEFAULT = c"OfxParamPropDefault";
        PARAM_PROP_DISPLAY_MAX = c"OfxParamPropDisplayMax";
        PARAM_PROP_DISPLAY_MIN = c"OfxParamPropDisplayMin";
        PARAM_PROP_ENABLED = c"OfxParamPropEnabled";
        PARAM_PROP_EVALUATE_ON_CHANGE = c"OfxParamPropEvaluateOnChange";
        PARAM_PROP_GROUP_OPEN = c"OfxParamPropGroupOpen";
        PARAM_PROP_HINT = c"OfxParamPropHint";
        PARAM_PROP_INVALIDATION = c"OfxParamPropCacheInvalidation";
        PARAM_INVALIDATE_ALL = c"OfxParamInvalidateAll";
        PARAM_PROP_MAX = c"OfxParamPropMax";
        PARAM_PROP_MIN = c"OfxParamPropMin";
        PARAM_PROP_PARENT = c"OfxParamPropParent";
        PARAM_PROP_PERSISTENT = c"OfxParamPropPersistant";
        PARAM_PROP_SCRIPT_NAME = c"OfxParamPropScriptName";
        PARAM_PROP_SECRET = c"OfxParamPropSecret";
        STRING_IS_MULTI_LINE = c"OfxParamStringIsMultiLine";
        PARAM_PROP_STRING_MODE = c"OfxParamPropStringMode";
        PARAM_PROP_FILE_EXISTS = c"OfxParamPropStringFilePathExists";
        STRING_IS_FILE_PATH = c"OfxParamStringIsFilePath";
        STRING_IS_SINGLE_LINE = c"OfxParamStringIsSingleLine";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{align_of, offset_of, size_of};

    const WORD: usize = size_of::<*const c_void>();

    #[test]
    fn handles_and_functions_are_pointers() {
        assert_eq!(size_of::<PropertySetHandle>(), WORD);
        assert_eq!(size_of::<Option<unsafe extern "C" fn(ParamHandle, ...) -> Status>>(), WORD);
        assert_eq!(size_of::<Host>(), 2 * WORD);
        assert_eq!(offset_of!(Host, fetch_suite), WORD);
    }

    #[test]
    fn plugin_layout() {
        assert_eq!(offset_of!(Plugin, api), 0);
        assert_eq!(offset_of!(Plugin, api_version), WORD);
        assert_eq!(offset_of!(Plugin, identifier), 2 * WORD);
        assert_eq!(offset_of!(Plugin, version_major), 3 * WORD);
        assert_eq!(offset_of!(Plugin, version_minor), 3 * WORD + 4);
        assert_eq!(offset_of!(Plugin, set_host), 3 * WORD + 8);
        assert_eq!(offset_of!(Plugin, main_entry), 4 * WORD + 8);
        assert_eq!(size_of::<Plugin>(), 5 * WORD + 8);
    }

    #[test]
    fn suite_layouts() {
        assert_eq!(size_of::<PropertySuite>(), 18 * WORD);
        assert_eq!(offset_of!(PropertySuite, get_pointer), 8 * WORD);
        assert_eq!(offset_of!(PropertySuite, get_dimension), 17 * WORD);
        assert_eq!(size_of::<ImageEffectSuite>(), 13 * WORD);
        assert_eq!(offset_of!(ImageEffectSuite, clip_get_image), 5 * WORD);
        assert_eq!(offset_of!(ImageEffectSuite, abort), 8 * WORD);
        assert_eq!(size_of::<ParameterSuite>(), 18 * WORD);
        assert_eq!(offset_of!(ParameterSuite, get_value), 4 * WORD);
        assert_eq!(offset_of!(ParameterSuite, set_value), 8 * WORD);
        assert_eq!(offset_of!(ParameterSuite, edit_end), 17 * WORD);
        assert_eq!(size_of::<ProgressSuite>(), 3 * WORD);
        assert_eq!(size_of::<TimeLineSuite>(), 3 * WORD);
        assert_eq!(size_of::<MessageSuite>(), 3 * WORD);
        assert_eq!(size_of::<InteractSuite>(), 3 * WORD);
        assert_eq!(size_of::<DrawSuite>(), 6 * WORD);
        assert_eq!(offset_of!(DrawSuite, draw), 4 * WORD);
        assert_eq!((size_of::<RectD>(), align_of::<RectD>()), (32, align_of::<c_double>()));
    }
}
